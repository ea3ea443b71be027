// The types of files that the server takes, for people: by kind, with their
// extensions.

import { h } from './dom.js';

const groups = [
  ['Pictures', /^image\//],
  ['Video', /^video\//],
  ['Sound', /^audio\/|^application\/ogg$/],
  ['Tables', /csv|tab-separated|spreadsheet|excel/],
  ['Archives', /^application\/(zip|gzip|zstd|vnd\.rar|x-(7z|bzip2|tar|xz))/],
  ['Data', /json|parquet|arrow|avro|orc$|feather|sqlite|yaml|\/xml$/],
  ['Mail and calendars', /^message\/|outlook|pkcs7|calendar|vcard/],
  ['Text', /^text\/(plain|markdown)/],
  ['Documents', /pdf|rtf|epub|word|opendocument|openxmlformats|powerpoint|visio|project|onenote|office|asic/],
];

export function acceptedTypes(limits) {
  const found = new Map([...groups.map(([name]) => [name, new Set()]), ['Other', new Set()]]);
  for (const { mime_type: type, extensions } of limits?.allowed ?? []) {
    const [name] = groups.find(([, types]) => types.test(type)) ?? ['Other'];
    const names = extensions?.length ? extensions.map((e) => e.replace(/^\./, '')) : [];
    for (const e of names) found.get(name).add(e);
  }
  const shown = [...found].filter(([, names]) => names.size);
  if (!shown.length) return null;
  return h('details', { class: 'accepted' }, h('summary', {}, 'Accepted file types'),
    h('div', { class: 'accepted-list', tabindex: '0', role: 'group', 'aria-label': 'Accepted file types' },
      h('dl', {}, shown.map(([name, names]) => h('div', {}, h('dt', {}, name), h('dd', {}, [...names].sort().join(', ')))))));
}

// withoutTypes is a refusal's sentence without the types that would be taken,
// which stand in one place for all files.
export const withoutTypes = (sentence) => sentence.replace(/(?:, or send another of what is taken: |: what is taken is )[^.]*\.$/, '.');
