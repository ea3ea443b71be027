// Check and clean-up, with their progress as the server tells it.

import { h, clear, button, icon, say } from './dom.js';
import { bytes, count } from './format.js';
import * as api from './api.js';
import { faultList, repair } from './faults.js';

export function upkeep({ signal }) {
  const known = h('div', { class: 'full' });
  const look = async () => {
    const faults = await api.get('/faults', { signal }).catch(() => []);
    clear(known, faults.length ? h('section', { class: 'card' }, h('h2', {}, 'Missing or damaged files'), h('p', { class: 'soft' }, repair), faultList(faults)) : null);
  };
  look();
  return h('div', { class: 'cards' }, known,
    task({ signal, title: 'Check', path: '/upkeep/check',
      text: 'Sees that every file is there with its length, and that what is known of them fits together. A deep check reads every file and finds bytes that have changed; it takes as long as reading the disk.',
      choices: [['Check', {}], ['Deep check', { deep: true }]], tell: checked, done: look }),
    task({ signal, title: 'Clean up', path: '/upkeep/gc',
      text: 'Removes stored contents that no file refers to, such as a crash leaves. The server does this by itself every hour; files are never touched.',
      choices: [['See what would go', { dry_run: true }], ['Clean up', {}]], tell: collected }));
}

function task({ signal, title, path, text, choices, tell, done = () => {} }) {
  const bar = h('progress', { 'aria-label': `Progress of ${title.toLowerCase()}`, hidden: true });
  const note = h('p', { class: 'soft small' });
  const result = h('div', { class: 'result', 'aria-live': 'polite' });
  const buttons = choices.map(([label, body]) => button(label, { click: () => run(body) }));

  async function run(body) {
    buttons.forEach((b) => { b.disabled = true; });
    clear(result);
    bar.hidden = false;
    bar.removeAttribute('value');
    note.textContent = 'Under way…';
    try {
      for await (const line of api.lines(path, body, signal)) {
        if (line.progress) {
          const { done, total } = line.progress;
          if (total) { bar.max = total; bar.value = done; }
          note.textContent = total ? `${bytes(done)} of ${bytes(total)} looked at` : `${bytes(done)} looked at`;
        } else if (line.error) throw new Error(line.error.detail);
        else clear(result, tell(line.report, body));
      }
      say(`${title}: finished.`);
    } catch (e) {
      if (e.name !== 'AbortError') clear(result, h('p', { class: 'error' }, e.message));
    }
    done();
    bar.hidden = true;
    note.textContent = '';
    buttons.forEach((b) => { b.disabled = false; });
  }

  return h('section', { class: 'card' }, h('h2', {}, title), h('p', { class: 'soft' }, text), h('div', { class: 'buttons' }, buttons), bar, note, result);
}

function checked(report) {
  const looked = `${count(report.attachments, 'file')} and ${count(report.contents, 'content')} (${bytes(report.bytes)}) looked at.`;
  const spare = report.orphans ? ` ${count(report.orphans, 'content')} (${bytes(report.orphan_bytes)}) can be cleaned up.` : '';
  if (!report.faults.length) return h('p', { class: 'ok' }, icon('check'), h('span', {}, h('strong', {}, 'No faults.'), ` ${looked}${spare}`));
  return [h('p', { class: 'error' }, `${count(report.faults.length, 'fault')}. ${looked}${spare}`),
    h('ul', { class: 'faults' }, report.faults.slice(0, 500).map((f) => h('li', {}, f.file_name ? h('strong', {}, h('bdi', {}, f.file_name), ': ') : null, f.what)))];
}

function collected(report, { dry_run: dry }) {
  const strays = report.strays ? ` and ${count(report.strays, 'object')} without a content (${bytes(report.stray_bytes)})` : '';
  const some = `${count(report.contents, 'content')} (${bytes(report.bytes)})${strays}`;
  return h('p', { class: 'ok' }, icon('check'), h('span', {}, report.contents || report.strays ? `${some} ${dry ? 'would go' : 'removed'}.` : 'There is nothing to clean up.'));
}
