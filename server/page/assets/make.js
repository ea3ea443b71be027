// Making and changing spaces and what they hold, which superadmins may.

import { h, clear, button, say } from './dom.js';
import * as api from './api.js';

// newId makes a UUID; crypto.randomUUID is there on secure origins only.
export function newId() {
  const raw = crypto.getRandomValues(new Uint8Array(16));
  raw[6] = raw[6] & 0x0f | 0x40;
  raw[8] = raw[8] & 0x3f | 0x80;
  return [...raw].map((b) => b.toString(16).padStart(2, '0')).join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

// slugOf makes of a name what stands in addresses: "Straße & Co." becomes "strasse-co".
export function slugOf(name) {
  const plain = name.toLowerCase().replaceAll('ß', 'ss').normalize('NFKD').replace(/\p{M}/gu, '');
  return plain.replace(/[^a-z0-9]+/g, '-').replace(/^-+/, '').slice(0, 63).replace(/-+$/, '');
}

// form is a line of fields with a button; what refuses it is said below.
export function form(fields, label, work) {
  const error = h('p', { class: 'error', role: 'alert' });
  const send = button(label, { class: 'primary', type: 'submit' });
  const submit = async (e) => {
    e.preventDefault();
    error.textContent = '';
    send.disabled = true;
    try {
      await work();
    } catch (refused) {
      error.textContent = refused.message;
    }
    send.disabled = false;
  };
  return h('form', { submit }, h('div', { class: 'inline' }, fields, send), error);
}

// acting gives a function that does something, says why that failed, and shows what is there now.
export const acting = (error, show) => async (work) => {
  error.textContent = '';
  try { await work(); } catch (e) { error.textContent = e.message; }
  await show();
};

// newSpace is a form for a space. Its address is made of its name until somebody writes one.
export function newSpace(app, label) {
  let written = false;
  const name = h('input', { required: true, placeholder: 'Name, for example Analytics', 'aria-label': 'Name of the new space', input: () => { if (!written) slug.value = slugOf(name.value); } });
  const slug = h('input', { required: true, placeholder: 'In addresses: analytics', pattern: '[a-z0-9][a-z0-9\\-]{0,62}', title: 'At most 63 small letters, digits and hyphens; not a hyphen first', 'aria-label': 'Name in addresses', input: () => { written = slug.value !== ''; } });
  return form([name, slug], label, async () => {
    await app.places.ready;
    if (app.places.spaces.some((s) => s.slug === slug.value)) throw new Error(`There is a space with the address “${slug.value}”. Choose another one.`);
    await api.put(`/directory/spaces/${slug.value}`, { name: name.value });
    await app.places.load();
    location.hash = `#/spaces/${slug.value}`;
  });
}

// newPlace is a form for a product, ticket or meeting in a space.
export function newPlace(app, space) {
  const kind = h('select', { 'aria-label': 'What to add' }, [['product', 'Product'], ['ticket', 'Ticket'], ['meeting', 'Meeting']].map(([value, label]) => h('option', { value }, label)));
  const name = h('input', { required: true, placeholder: 'Name, for example Orders', 'aria-label': 'Its name' });
  return form([kind, name], 'Add', async () => {
    const place = api.placeOf(kind.value, newId(), space);
    await api.put(place.record, { product: { name: name.value }, ticket: { space, owner_id: app.me.id, title: name.value }, meeting: { space, title: name.value } }[kind.value]);
    await app.places.load();
    location.hash = place.hash;
  });
}

// removal asks before it removes something with all its files. Once that is done, it shows
// what is left: where there is a trash, a way back.
export function removal(app, { what, name, record, gone, back }) {
  const el = h('div', { class: 'actions' });
  const error = h('p', { class: 'error', role: 'alert' });
  const begin = button(`Remove this ${what}`, { class: 'plain', icon: 'trash', click: async () => {
    const keep = (await app.limits)?.trash_keep_seconds;
    const yes = button('Remove', { class: 'danger', click: async () => {
      error.textContent = '';
      try {
        await api.remove(`${record}?attachments=delete`);
        await app.places.load();
        say(`${name()} was removed.`);
        gone(keep ? h('div', { class: 'buttons' }, button('Undo', { icon: 'retry', click: restore })) : null, error);
      } catch (e) {
        error.textContent = e.message;
      }
    } });
    clear(el, h('p', { class: 'question' }, h('strong', {}, 'Remove ', h('bdi', {}, name()), '?'), ` All its files go with it. ${keep ? 'An administrator can bring them back until the trash is emptied.' : 'This cannot be undone.'}`),
      yes, button('Cancel', { class: 'plain', click: () => { clear(el, begin); begin.focus(); } }), error);
    yes.focus();
  } });
  const restore = async () => {
    error.textContent = '';
    try {
      await api.post(`${record}/restore`);
      await app.places.load();
      say(`${name()} was restored.`);
      back();
    } catch (e) {
      error.textContent = e.message;
    }
  };
  el.append(begin);
  return el;
}
