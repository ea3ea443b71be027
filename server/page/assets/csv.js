// Tables of text (RFC 4180), as they are met in the wild: with commas,
// semicolons, tabs or bars between the fields.

// parse reads at most so many rows. A field in quotes may hold anything; a
// quote in it is doubled.
export function parse(text, delimiter, most) {
  const rows = [];
  let row = [];
  let field = '';
  let i = 0;
  const endRow = () => {
    row.push(field);
    if (row.length > 1 || field !== '') rows.push(row);
    row = [];
    field = '';
  };
  while (i < text.length && rows.length < most) {
    const c = text[i];
    if (c === '"' && field === '') {
      let end = i + 1;
      for (;;) {
        end = text.indexOf('"', end);
        if (end < 0) end = text.length;
        if (text[end + 1] !== '"') break;
        end += 2;
      }
      field += text.slice(i + 1, end).replaceAll('""', '"');
      i = end + 1;
    } else if (c === delimiter) {
      row.push(field);
      field = '';
      i++;
    } else if (c === '\n' || c === '\r') {
      endRow();
      i += c === '\r' && text[i + 1] === '\n' ? 2 : 1;
    } else {
      let end = i + 1;
      while (end < text.length && text[end] !== delimiter && text[end] !== '\n' && text[end] !== '\r') end++;
      field += text.slice(i, end);
      i = end;
    }
  }
  if ((field !== '' || row.length) && rows.length < most) endRow();
  return { rows, whole: i >= text.length };
}

// delimiterOf guesses: what gives the first rows the same number of fields,
// and the most of them.
export function delimiterOf(text, type) {
  if (type === 'text/tab-separated-values') return '\t';
  const head = text.slice(0, 20000);
  let best = [',', 0];
  for (const candidate of [',', ';', '\t', '|']) {
    const widths = parse(head, candidate, 20).rows.map((r) => r.length);
    const width = widths[0] ?? 0;
    const same = widths.filter((w) => w === width).length / (widths.length || 1);
    const score = width > 1 ? same * Math.log2(width + 1) : 0;
    if (score > best[1]) best = [candidate, score];
  }
  return best[0];
}
