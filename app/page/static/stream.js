window.vlmDlm = window.vlmDlm || {};
