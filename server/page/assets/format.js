// Numbers and times as people read them, in the reader's language and zone.

const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];

export function bytes(n) {
  if (n === 1) return '1 byte';
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  const digits = unit === 0 || n >= 100 ? 0 : 1;
  return `${n.toLocaleString(undefined, { maximumFractionDigits: digits })} ${units[unit]}`;
}

export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString()} ${n === 1 ? one : many}`;
}

export function span(seconds) {
  if (!Number.isFinite(seconds)) return '';
  const parts = [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']];
  for (const [size, name] of parts) {
    if (seconds >= size) return count(Math.round(seconds / size), name);
  }
  return 'a moment';
}

const relativeTime = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
const exactTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });
const day = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

export function relative(iso, now = Date.now()) {
  const seconds = (Date.parse(iso) - now) / 1000;
  const ago = Math.abs(seconds);
  if (ago < 45) return relativeTime.format(0, 'second');
  if (ago < 3600) return relativeTime.format(Math.round(seconds / 60), 'minute');
  if (ago < 86400) return relativeTime.format(Math.round(seconds / 3600), 'hour');
  if (ago < 14 * 86400) return relativeTime.format(Math.round(seconds / 86400), 'day');
  return day.format(Date.parse(iso));
}

export const exact = (iso) => exactTime.format(Date.parse(iso));
export const dateTime = (iso) => moment.format(Date.parse(iso));

// The kinds of files that people tell apart.
export const kinds = {
  image: { label: 'Pictures', icon: 'image' },
  pdf: { label: 'PDF', icon: 'pdf' },
  document: { label: 'Documents', icon: 'document' },
  text: { label: 'Text', icon: 'text' },
  table: { label: 'Tables', icon: 'table' },
  data: { label: 'Data', icon: 'code' },
  archive: { label: 'Archives', icon: 'archive' },
  media: { label: 'Audio and video', icon: 'video' },
  other: { label: 'Other', icon: 'file' },
};

export function kindOf(type) {
  if (type.startsWith('image/')) return 'image';
  if (type === 'application/pdf') return 'pdf';
  if (/^(audio|video)\//.test(type)) return 'media';
  if (/csv|tab-separated|spreadsheet|excel|parquet/.test(type)) return 'table';
  if (/json|(xml|yaml)$/.test(type) && !/officedocument/.test(type)) return 'data';
  if (/zip|x-tar|x-7z|x-xz|zstd|bzip/.test(type) && !/epub/.test(type)) return 'archive';
  if (/^text\/|^message\//.test(type) && !/rtf|richtext/.test(type)) return 'text';
  if (/word|opendocument|officedocument|powerpoint|rtf|epub|outlook/.test(type)) return 'document';
  return 'other';
}
