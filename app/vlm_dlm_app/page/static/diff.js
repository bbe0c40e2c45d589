// Where two answers disagree, token by token.
window.vlmDlm = window.vlmDlm || {};

vlmDlm.diff = (() => {
  const MAX_CELLS = 4_000_000; // beyond that the middle counts as all different

  /** Lengths of common subsequences of the tails, row by row. */
  function table(a, b) {
    const width = b.length + 1;
    const cells = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        const at = i * width + j;
        cells[at] = a[i] === b[j] ? cells[at + width + 1] + 1 : Math.max(cells[at + width], cells[at + 1]);
      }
    }
    return { cells, width };
  }

  /** Pairs (index in a, index in b) of tokens that are the same in both. */
  function matches(a, b) {
    let head = 0;
    while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
    let tail = 0;
    while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail])
      tail += 1;
    const pairs = Array.from({ length: head }, (_, i) => [i, i]);
    const [midA, midB] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
    if (midA.length * midB.length <= MAX_CELLS) pairs.push(...inner(midA, midB, head));
    for (let i = tail; i > 0; i -= 1) pairs.push([a.length - i, b.length - i]);
    return pairs;
  }

  /** Matches between the first and the last difference. */
  function inner(a, b, offset) {
    const { cells, width } = table(a, b);
    const pairs = [];
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      if (a[i] === b[j]) pairs.push([offset + i++, offset + j++]);
      else if (cells[(i + 1) * width + j] >= cells[i * width + j + 1]) i += 1;
      else j += 1;
    }
    return pairs;
  }

  /** Of two lists of rows: own tokens that ar lacks, and ar's tokens lost before each own index. */
  function compare(arRows, ownRows) {
    const ids = (rows) => rows.map((row) => row[vlmDlm.parts.ROW.ID]);
    const pairs = matches(ids(arRows), ids(ownRows));
    const added = new Set(ownRows.keys());
    const lost = new Map();
    let nextAr = 0;
    for (const [i, j] of [...pairs, [arRows.length, ownRows.length]]) {
      if (i > nextAr)
        lost.set(
          j,
          arRows.slice(nextAr, i).map((_, k) => nextAr + k),
        );
      added.delete(j);
      nextAr = i + 1;
    }
    return { added, lost };
  }

  return { compare };
})();
