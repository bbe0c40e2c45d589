"""Transport: the HTTP interface and the page. No tensors and no decoding logic live here."""
