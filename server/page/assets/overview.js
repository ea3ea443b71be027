// How the server stands, at a glance.

import { h, clear, icon } from './dom.js';
import { bytes, count, relative, exact, span } from './format.js';
import * as api from './api.js';
import { faultList, repair } from './faults.js';
import { bars, columns, meter } from './charts.js';

const interval = 10000; // milliseconds between looks
const hour = new Intl.DateTimeFormat(undefined, { weekday: 'short', hour: 'numeric', minute: '2-digit' });

export function overview({ signal }) {
  const el = h('div', { class: 'cards' }, h('p', { class: 'soft' }, 'Loading…'));
  const look = async () => {
    try {
      const [stats, faults] = await Promise.all([api.get('/stats', { signal }), api.get('/faults', { signal })]);
      draw(el, stats, faults);
    } catch (e) {
      if (e.name !== 'AbortError') clear(el, h('p', { class: 'error', role: 'alert' }, e.message));
    }
    if (!signal.aborted) timer = setTimeout(look, interval);
  };
  let timer;
  signal.addEventListener('abort', () => clearTimeout(timer));
  look();
  return el;
}

const card = (title, ...content) => h('section', { class: 'card' }, h('h2', {}, title), content);
const fact = (name, ...value) => h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, value));
const when = (iso) => (iso ? h('time', { datetime: iso, title: exact(iso) }, relative(iso)) : 'never');

// Hours before the server was started have a place too, so that one hour is as
// wide as another.
function lastHours(hours) {
  const known = new Map(hours.map((x) => [Date.parse(x.start), x]));
  const last = Math.max(...known.keys());
  return Array.from({ length: 24 }, (_, i) => last - (23 - i) * 3600000).map((start) => ({ uploads: 0, downloads: 0, ...known.get(start), start }));
}

const day = 86400000; // milliseconds
const ago = (iso) => (iso ? Date.now() - Date.parse(iso) : Infinity);

// health is good only where somebody has looked, and there is a way back.
function health(s, faults) {
  const n = faults.length + s.database_faults;
  if (n) return ['bad', count(n, 'fault'), ' found'];
  if (!s.last_check) return ['warn', 'Not checked', ' yet'];
  if (!s.last_backup) return ['bad', 'No backup', ' yet'];
  if (ago(s.last_check) > 35 * day) return ['warn', 'Check is old', ''];
  if (ago(s.last_backup) > 2 * day) return ['warn', 'Backup is old', ''];
  return ['good', 'No faults', ' known'];
}

function draw(el, s, faults) {
  const [level, word, more] = health(s, faults);
  const used = s.disk.total - s.disk.free;
  const open = Math.max(0, s.disk.free - s.disk.reserve);
  clear(el,
    faults.length > 0 ? h('section', { class: 'banner', role: 'alert' }, icon('alert'), h('div', {}, h('p', {}, `${count(faults.length, 'file')} missing or damaged. ${repair}`), faultList(faults))) : null,
    card('Disk',
      h('p', { class: 'figure' }, bytes(open), h('small', {}, ' left for uploads')),
      meter([{ kind: 'used', value: used, name: 'Used' }, { kind: 'open', value: open, name: 'Free' }, { kind: 'reserve', value: Math.min(s.disk.reserve, s.disk.free), name: 'Reserve' }],
        `Disk: ${bytes(used)} used, ${bytes(s.disk.free)} free, of which ${bytes(s.disk.reserve)} are kept in reserve`),
      h('dl', {}, fact('Used', bytes(used)), fact('Free', bytes(s.disk.free)), fact('Reserve', bytes(s.disk.reserve)), fact('Size', bytes(s.disk.total)))),
    card('Files',
      h('p', { class: 'figure' }, s.attachments.files.toLocaleString(), h('small', {}, s.attachments.files === 1 ? ' file' : ' files')),
      h('dl', {}, fact('Total size', bytes(s.attachments.bytes)), fact('Stored contents', s.contents.files.toLocaleString()), fact(s.storage.backend === 's3' ? 'In the bucket' : 'On the disk', bytes(s.contents.bytes)), s.storage.bucket ? fact('Bucket', h('bdi', {}, `${s.storage.bucket}/${s.storage.prefix ?? ''}`)) : null, fact('Saved by storing content once', bytes(s.bytes_saved)),
        fact('In the trash', `${bytes(s.trash.bytes)} · ${s.trash.files.toLocaleString()}`), s.trash.next_expiry ? fact('Next removed from it', when(s.trash.next_expiry)) : null)),
    card('Health',
      h('p', { class: `figure ${level}` }, word, h('small', {}, more)),
      h('dl', {}, fact('Last check', when(s.last_check)), fact('Last clean-up', when(s.last_gc)), fact('Last backup', when(s.last_backup)), fact('Last scrub', when(s.scrub?.last)),
        fact('Uploads under way', `${s.upload_slots.in_use} of ${s.upload_slots.max}`), fact('Running for', span(s.uptime_seconds)), fact('Version', h('code', {}, s.version)))),
    h('section', { class: 'card full' }, h('h2', {}, 'Uploads and downloads by the hour'),
      columns(lastHours(s.hours).map((x) => ({ name: hour.format(x.start), values: [x.uploads, x.downloads] })), 'Uploads and downloads by the hour', ['uploads', 'downloads'])),
    card('Types', s.by_type.length ? bars([...s.by_type].sort((a, b) => b.bytes - a.bytes).slice(0, 8).map((t) => ({ name: t.mime_type, value: t.bytes, text: `${bytes(t.bytes)} · ${t.files.toLocaleString()}` })), 'Bytes and files by type') : nothing()),
    card('Sizes', s.by_size.some((b) => b.files) ? bars(s.by_size.map((b) => ({ name: b.up_to ? `up to ${bytes(b.up_to)}` : 'larger', value: b.files, text: b.files.toLocaleString() })), 'Files by size') : nothing()));
}

const nothing = () => h('p', { class: 'soft' }, 'There are no files yet. Upload one, and it is counted here.');
