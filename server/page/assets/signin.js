// Signing in: a key is traded for a session, and kept nowhere.

import { h, button, icon } from './dom.js';
import * as api from './api.js';

export function signIn(entered, reason) {
  const input = h('input', { id: 'key', name: 'password', type: 'password', autocomplete: 'current-password', spellcheck: 'false', required: true, 'aria-describedby': 'key-error', placeholder: 'Paste your key' });
  const error = h('p', { id: 'key-error', class: 'error', role: 'alert' }, reason);
  const submit = button('Sign in', { class: 'primary', type: 'submit' });

  async function send(body) {
    error.textContent = '';
    submit.disabled = true;
    try {
      entered(await api.post('/session', body));
    } catch (e) {
      error.textContent = e.message;
      input.focus();
    } finally {
      submit.disabled = false;
    }
  }

  const form = h('form', { submit: (e) => { e.preventDefault(); send({ key: input.value.trim() }); } },
    // Password managers keep a password with a name; the key needs none.
    h('input', { class: 'unseen', name: 'username', autocomplete: 'username', value: `API key of ${location.host}`, readonly: true, tabindex: '-1', 'aria-hidden': 'true' }),
    h('label', { for: 'key' }, 'API key'), input, error, submit);
  const card = h('div', { class: 'card' },
    h('h1', {}, icon('clip'), h('span', {}, 'attachd')),
    h('p', { class: 'soft' }, 'The files of your products, tickets and meetings.'), form);
  if (document.documentElement.hasAttribute('data-demo')) demo(card, send);
  return h('main', { class: 'signin' }, card,
    h('p', { class: 'soft small' }, 'Keys come from an operator of this server. ', h('a', { href: api.at('/docs') }, 'The API'), ' takes the same keys. ', h('a', { href: api.at('/manual') }, 'The manual'), ' says how everything works.'));
}

const roles = { admin: 'may do everything in the space', editor: 'uploads and deletes own files', viewer: 'looks and downloads', operator: 'sees the whole server' };

async function demo(card, send) {
  const users = await api.get('/demo').catch(() => null);
  if (!users?.length) return;
  card.append(h('div', { class: 'demo' },
    h('h2', {}, 'This is a demo. Look around as'),
    users.map((u) => h('button', { type: 'button', class: 'row-button', click: () => send({ demo: u.name }) },
      h('strong', {}, h('bdi', {}, u.full_name)), h('span', { class: 'soft' }, `${u.name}: ${roles[u.name] ?? 'signs in'}`)))));
}
