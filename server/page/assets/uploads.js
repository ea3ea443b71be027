// Uploads under way: all together and each with its progress, wherever the
// reader goes meanwhile. What is stored moves below what is not; what failed
// stays in the list until somebody retries or removes it.

import { h, button, icon, fileName, say } from './dom.js';
import { bytes, count, span } from './format.js';
import * as api from './api.js';
import { acceptedTypes, withoutTypes } from './types.js';

const atOnce = 3;
const waits = [1, 2, 4, 8, 15, 30]; // seconds before the next try
const stalled = 4; // seconds without progress, from which on that is said in place of a speed

export class Uploads {
  constructor(app) {
    this.app = app;
    this.items = [];
    this.done = new EventTarget();
    this.title = h('h2', {});
    this.list = h('ul', {});
    this.stored = h('ul', {});
    this.total = h('progress', { max: '1', value: 0, 'aria-label': 'All uploads' });
    this.fold = button('Fold away', { class: 'plain', quiet: true, icon: 'next', 'aria-expanded': 'true', click: () => this.unfold(this.lists.hidden) });
    this.el = h('section', { class: 'tray', 'aria-label': 'Uploads', hidden: true },
      h('div', { class: 'tray-head' }, this.title,
        this.retryAll = button('Retry all', { class: 'plain', click: () => this.items.filter((i) => i.state === 'failed').forEach((i) => this.retry(i)) }),
        this.tidy = button('Clear', { class: 'plain', 'aria-label': 'Clear finished uploads', click: () => this.clearFinished() }),
        this.stop = button('Cancel all', { class: 'plain', click: () => this.cancelAll() }), this.fold),
      this.total,
      this.lists = h('div', { class: 'tray-lists', tabindex: '0', role: 'group', 'aria-label': 'Files' },
        this.list, this.stored, this.accepted = h('div', { class: 'tray-types', hidden: true })));
    app.limits.then((limits) => this.accepted.append(...[acceptedTypes(limits)].filter(Boolean)));
    this.online = () => this.items.filter((i) => i.state === 'waiting').forEach((i) => this.retry(i));
    this.warn = (e) => { if (this.items.some(active)) e.preventDefault(); };
    addEventListener('online', this.online);
    addEventListener('beforeunload', this.warn);
    this.clock = setInterval(() => this.tick(), 1000);
  }

  // tick draws what changes with time alone: no event tells of what stands still.
  tick() {
    if (!this.items.some(active)) return;
    for (const item of this.items) if (item.state === 'running') this.draw(item);
    this.summary();
  }

  unfold(open) {
    this.lists.hidden = !open;
    const label = open ? 'Fold away' : 'Unfold';
    for (const [name, value] of [['aria-expanded', open], ['aria-label', label], ['title', label]]) this.fold.setAttribute(name, value);
  }

  add(place, files, comment = '') {
    for (const file of files) {
      const item = { place, file, comment, state: 'queued', sent: 0, tries: 0, error: '' };
      this.items.push(item);
      this.list.append(this.row(item));
    }
    if (files.length) say(`${count(files.length, 'file')} to upload.`);
    this.next();
  }

  // resume goes on after the same person has signed in again.
  resume(app) {
    this.app = app;
    for (const item of this.items) if (item.state === 'queued') this.draw(item);
    this.next();
    return this;
  }

  row(item) {
    item.bar = h('progress', { max: '1', value: 0, 'aria-label': `Upload of ${item.file.name}` });
    item.note = h('p', { class: 'note' });
    item.cancel = button('Cancel', { icon: 'close', quiet: true, 'aria-label': `Cancel ${item.file.name}`, click: () => this.remove(item) });
    item.again = button('Retry', { class: 'plain', icon: 'retry', quiet: true, 'aria-label': `Retry ${item.file.name}`, click: () => this.retry(item) });
    item.el = h('li', {}, icon('file'), h('div', { class: 'grow' }, fileName(item.file.name), item.bar, item.note), item.again, item.cancel);
    this.draw(item);
    return item.el;
  }

  // next sends what waits for its turn. While the server does not answer, one at
  // a time tries whether it is back.
  next() {
    let running = this.count('running');
    const most = this.lost().length ? 1 : atOnce;
    for (const item of this.items) {
      if (running >= most) break;
      if (item.state === 'queued') { this.send(item); running++; }
    }
    this.summary();
  }

  async send(item) {
    Object.assign(item, { state: 'running', sent: 0, began: performance.now(), samples: [], share: 0, error: '' });
    this.draw(item);
    const limits = await this.app.limits;
    if (item.state !== 'running') return;
    if (limits?.max_file_size && item.file.size > limits.max_file_size) {
      return this.fail(item, new api.Refusal(413, { detail: `The file is larger than the limit of ${bytes(limits.max_file_size)} (${limits.max_file_size.toLocaleString()} bytes).` }));
    }
    const form = new FormData();
    if (item.comment) form.append('comment_id', item.comment);
    form.append('file', item.file, item.file.name);
    const request = item.request = new XMLHttpRequest();
    request.open('POST', api.at(item.place.list));
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (e) => this.progress(item, e.loaded, e.total));
    request.addEventListener('load', () => {
      if (request.status === 201) this.finish(item, JSON.parse(request.responseText));
      else this.fail(item, api.refusalOf(request.status, request.responseText, request.getResponseHeader('Retry-After')));
    });
    request.addEventListener('error', () => this.fail(item, api.unreachable()));
    request.send(form);
  }

  progress(item, sent, total) {
    const now = performance.now();
    item.samples.push([now, sent]);
    while (item.samples.length > 2 && now - item.samples[0][0] > 4000) item.samples.shift();
    item.sent = Math.min(sent, item.file.size);
    item.share = total ? sent / total : 0;
    if (now - (item.drawn ?? 0) > 100 || sent === total) { item.drawn = now; this.draw(item); this.summary(); }
  }

  finish(item, attachment) {
    item.state = 'done';
    item.bar.remove();
    const focused = item.el.contains(document.activeElement) ? document.activeElement : null;
    this.stored.prepend(item.el);
    this.draw(item);
    focused?.focus();
    for (const other of this.lost()) this.retry(other, true); // it is back
    this.done.dispatchEvent(new CustomEvent('uploaded', { detail: { place: item.place, attachment } }));
    this.next();
    this.announce();
  }

  // announce says why a file was refused, and, once all is over, how it went.
  announce(refused = '') {
    const [stored, failed] = [this.count('done'), this.count('failed')];
    const all = failed ? `${stored.toLocaleString()} of ${count(stored + failed, 'file')} uploaded, ${failed.toLocaleString()} refused.` : `${count(stored, 'file')} uploaded.`;
    const words = [refused, this.items.some(active) ? '' : all].filter(Boolean).join(' ');
    if (words) say(words);
  }

  count(state) { return this.items.filter((i) => i.state === state).length; }

  // lost are those that wait because nothing answered.
  lost() { return this.items.filter((i) => i.state === 'waiting' && i.unanswered); }

  fail(item, refusal) {
    item.error = withoutTypes(refusal.message);
    item.code = refusal.code;
    if (refusal.status === 401) { // whoever signs in again goes on
      item.state = 'queued';
      return;
    }
    const passing = [0, 408, 429, 502, 503, 504].includes(refusal.status);
    if (passing && item.tries < 50) {
      const wait = Math.max(refusal.retryAfter, waits[Math.min(item.tries, waits.length - 1)]);
      item.tries++;
      item.state = 'waiting';
      item.unanswered = refusal.status === 0;
      item.until = Date.now() + wait * 1000;
      item.timer = setTimeout(() => this.retry(item, true), wait * 1000);
    } else {
      item.state = 'failed';
    }
    this.draw(item);
    this.next();
    if (item.state === 'failed') this.announce(`${item.file.name}: ${item.error}`);
  }

  retry(item, automatic = false) {
    clearTimeout(item.timer);
    if (!automatic) item.tries = 0;
    item.state = 'queued';
    this.draw(item);
    this.next();
  }

  remove(item) {
    const wasActive = active(item);
    this.drop([item]);
    if (wasActive) say(`${item.file.name} was cancelled.`);
  }

  cancelAll() {
    const open = this.items.filter(active);
    this.drop(open);
    say(`${count(open.length, 'upload')} cancelled.`);
  }

  clearFinished() { this.drop(this.items.filter((i) => !active(i))); }

  // drop takes items off the list, and stops what is under way of them.
  drop(items) {
    for (const item of items) {
      clearTimeout(item.timer);
      item.state = 'removed';
      item.request?.abort();
      item.el.remove();
    }
    this.items = this.items.filter((i) => i.state !== 'removed');
    this.next();
  }

  draw(item) {
    item.el.dataset.state = item.state;
    item.bar.value = item.state === 'done' ? 1 : item.state === 'running' ? item.share ?? 0 : 0;
    item.bar.hidden = item.state === 'failed' || item.state === 'done';
    item.again.hidden = item.state !== 'failed' && item.state !== 'waiting';
    item.cancel.setAttribute('aria-label', `${item.state === 'done' || item.state === 'failed' ? 'Remove from the list:' : 'Cancel'} ${item.file.name}`);
    item.note.textContent = this.describe(item);
    item.note.classList.toggle('error', item.state === 'failed');
  }

  describe(item) {
    const size = bytes(item.file.size);
    switch (item.state) {
      case 'queued': return `${size} · waiting for its turn`;
      case 'waiting': return `${item.error} Trying again by itself.`;
      case 'failed': return item.error;
      case 'done': return `${size} · uploaded`;
    }
    if (item.share >= 1) return `${size} · being stored`;
    const [[began, first], [now, sent]] = [item.samples?.[0] ?? [0, 0], item.samples?.at(-1) ?? [0, 0]];
    const rate = now > began ? (sent - first) / (now - began) * 1000 : 0;
    const still = Math.floor((performance.now() - Math.max(now, item.began)) / 1000);
    if (still >= stalled) return `${bytes(item.sent)} of ${size} · stalled for ${span(still)}`;
    if (!rate) return `${bytes(item.sent)} of ${size}`;
    return `${bytes(item.sent)} of ${size} · ${bytes(rate)}/s · ${span(Math.max(1, (item.file.size - item.sent) / rate))} left`;
  }

  summary() {
    const { items } = this;
    this.el.hidden = items.length === 0;
    const [open, done, failed] = [items.filter(active).length, this.count('done'), this.count('failed')];
    const lost = this.lost();
    const wait = Math.max(0, Math.ceil((Math.min(...lost.map((i) => i.until)) - Date.now()) / 1000));
    this.title.textContent = lost.length && !items.some((i) => i.state === 'running' && i.sent > 0)
      ? `Connection lost, trying again ${wait ? `in ${wait} s` : 'now'}`
      : [open ? `${done.toLocaleString()} of ${(open + done).toLocaleString()} uploaded` : done && `${done.toLocaleString()} uploaded`, failed && `${failed.toLocaleString()} refused`].filter(Boolean).join(' · ');
    const sizes = (some) => items.reduce((sum, i) => sum + some(i), 0);
    this.total.value = sizes((i) => (i.state === 'done' ? i.file.size : i.state === 'running' ? i.sent : 0)) / Math.max(1, sizes((i) => (i.state === 'failed' ? 0 : i.file.size)));
    this.total.hidden = this.stop.hidden = open === 0;
    this.accepted.hidden = !items.some((i) => i.state === 'failed' && i.code === 'invalid_file');
    this.retryAll.hidden = failed < 2;
    this.tidy.hidden = done + failed === 0 || open > 0;
  }

  close() {
    removeEventListener('online', this.online);
    removeEventListener('beforeunload', this.warn);
    clearInterval(this.clock);
    this.drop(this.items);
  }
}

const active = (item) => ['queued', 'running', 'waiting'].includes(item.state);
