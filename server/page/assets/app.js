// The page as a whole: who is signed in, where they are, and what is shown.

import { h, clear, button, icon, emptyPage, say } from './dom.js';
import * as api from './api.js';
import { signIn } from './signin.js';
import { Places } from './places.js';
import { PlaceView } from './place.js';
import { Uploads } from './uploads.js';
import { keysView } from './keys.js';
import { operatorView } from './operator.js';
import { SpaceView } from './space.js';
import { firstSteps } from './start.js';

// Whether there may be a session: asking without one is an error to browsers.
const mark = 'attachd.signed-in';

let app = null; // what is on the screen of somebody who is signed in
let before = null; // what was, when the session ended

async function start() {
  api.session.addEventListener('ended', () => app && ended());
  addEventListener('hashchange', () => linkHere() ? location.reload() : app?.show());
  // A file beside the mark must not replace the page. Where something new is under the
  // pointer, browsers ask with dragenter alone whether it takes what is dropped.
  for (const name of ['dragenter', 'dragover', 'drop']) addEventListener(name, (e) => e.preventDefault());
  const refused = await enterOnce(linkHere());
  if (app) return;
  if (localStorage.getItem(mark)) {
    try {
      return enter(await api.get('/users/me'));
    } catch (e) {
      if (e.status !== 401) return unavailable(e);
    }
  }
  showSignIn(refused);
}

// linkHere returns the secret of the sign-in link that the address is.
function linkHere() {
  return /^#\/enter\/(.+)$/.exec(location.hash)?.[1];
}

// enterOnce signs in by a link that works once, and returns why it does not. It takes
// the secret out of the address, and waits until somebody looks: a browser may load a
// page ahead.
async function enterOnce(link) {
  if (!link) return '';
  history.replaceState(null, '', '#/');
  if (document.prerendering) await new Promise((looked) => document.addEventListener('prerenderingchange', looked, { once: true }));
  try {
    enter(await api.post('/session', { link }));
  } catch (e) {
    return e.message;
  }
}

function showSignIn(reason = '') {
  document.title = 'Sign in · attachd';
  clear(document.body, signIn((me) => enter(me), reason));
  document.getElementById('key')?.focus();
}

function unavailable(e) {
  clear(document.body, h('main', { class: 'signin' }, emptyPage('alert', 'The server does not answer', e.message, button('Try again', { class: 'primary', icon: 'retry', click: () => location.reload() }))));
}

// ended keeps the address, so that signing in again leads back to the place.
function ended() {
  before = app;
  leave();
  showSignIn('Your session has ended. Sign in again to go on where you were.');
}

function leave() {
  localStorage.removeItem(mark);
  app?.view?.close?.();
  app = null;
}

async function signOut() {
  try {
    await api.remove('/session');
  } catch (e) {
    return say(e.message);
  }
  app.uploads.close();
  leave();
  location.hash = '#/';
  showSignIn();
}

function enter(me) {
  localStorage.setItem(mark, '1');
  const uploads = before?.me.id === me.id ? before.uploads : null;
  if (before && !uploads) before.uploads.close();
  before = null;
  app = new App(me, uploads);
  app.show();
}

class App {
  constructor(me, uploads) {
    this.me = me;
    this.limits = api.get('/limits').catch(() => null);
    this.uploads = uploads?.resume(this) ?? new Uploads(this);
    this.places = new Places(this);
    this.view = null;
    this.shown = null; // the name of what the view shows
    this.main = h('main', { id: 'main', tabindex: '-1' });
    this.nav = h('nav', { class: 'sections', 'aria-label': 'Sections' },
      this.tab('#/', 'box', 'Places'),
      this.tab('#/keys', 'key', 'Keys'),
      me.is_superadmin ? this.tab('#/operator', 'gauge', 'Operator') : null,
      this.tab(api.at('/docs'), 'code', 'API'),
      this.tab(api.at('/manual'), 'text', 'Manual'));
    const skip = h('a', { class: 'skip', href: '#main', click: (e) => { e.preventDefault(); this.main.focus(); } }, 'Skip to the content');
    this.el = h('div', { class: 'app' }, skip,
      h('header', { class: 'bar' },
        h('a', { class: 'brand', href: '#/', 'aria-label': 'attachd, all places' }, icon('clip'), h('span', {}, 'attachd')),
        this.nav,
        h('span', { class: 'me', title: me.full_name }, h('bdi', {}, me.full_name)),
        button('Sign out', { class: 'plain', click: signOut })),
      this.places.el, this.main, this.uploads.el);
    clear(document.body, this.el);
  }

  tab(href, name, label) {
    return h('a', { href, 'aria-label': label, title: label }, icon(name), h('span', {}, label));
  }

  // role is the reader's in a space; the server has the last word.
  role(space) {
    if (this.me.is_superadmin) return 'admin';
    return this.me.spaces.find((s) => s.slug === space)?.role ?? 'none';
  }

  spaceName(slug) {
    return this.me.spaces.find((s) => s.slug === slug)?.name || this.places.spaces.find((s) => s.slug === slug)?.name || slug;
  }

  show() {
    const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
    const route = path.split('/').filter(Boolean).map(decode);
    const params = new URLSearchParams(query);
    const [section] = route;
    this.el.dataset.at = section === 'spaces' ? 'place' : section ?? 'home';
    const current = section === 'operator' || section === 'keys' ? `#/${section}` : '#/';
    for (const a of this.nav.children) {
      if (a.getAttribute('href') === current) a.setAttribute('aria-current', 'page');
      else a.removeAttribute('aria-current');
    }
    const place = section === 'spaces' && /^(product|ticket|meeting)s$/.test(route[2] ?? '') && route[3]
      ? api.placeOf(route[2].slice(0, -1), route[3], route[1]) : null;
    this.places.mark(place);
    const name = place ? place.list : section === 'operator' ? 'operator' : path;
    const other = this.shown !== name;
    if (other) {
      this.view?.close?.();
      this.view = this.make(section, place, route.length === 2 ? route[1] : '');
      this.shown = name;
      clear(this.main, this.view.el);
    }
    this.view.update?.(route, params);
    // A new address takes the keyboard's place away, or hides it.
    const at = document.activeElement;
    if (at === document.body || !at.checkVisibility()) (!other && this.view.focus || (() => this.main.focus()))();
  }

  // again makes the view anew.
  again() {
    this.shown = null;
    this.show();
  }

  make(section, place, space) {
    if (place) return new PlaceView(this, place);
    document.title = 'attachd';
    if (section === 'keys') return keysView(this);
    if (section === 'spaces' && space && this.me.is_superadmin) return new SpaceView(this, space);
    if (section === 'new' && this.me.is_superadmin) {
      return { el: h('div', { class: 'page' }, h('a', { class: 'back', href: '#/' }, icon('back'), 'Places'), h('h1', {}, 'New space'), firstSteps(this)) };
    }
    if (section === 'operator' && this.me.is_superadmin) return operatorView(this);
    if (section) {
      return { el: emptyPage('search', 'Page not found', 'The address is wrong, or you do not have access to what it names.', h('a', { class: 'button', href: '#/' }, 'All places')) };
    }
    return { el: this.home() };
  }

  home() {
    if (!this.me.spaces.length && !this.me.is_superadmin) {
      return emptyPage('box', 'No spaces yet', 'You are not a member of any space yet. Ask an administrator of this server to add you to one.');
    }
    const el = h('div', {}, emptyPage('box', 'Choose a place', 'Files belong to products, tickets and meetings. Choose one to see its files, or search by name.'));
    if (this.me.is_superadmin) {
      api.get('/directory/spaces?limit=1').then(([some]) => {
        this.el.toggleAttribute('data-empty', !some);
        if (!some) clear(el, emptyPage('box', 'Make your first space', 'Files belong to products, tickets and meetings, and these to spaces: one for each team, customer or system, with members and a quota of its own.'), h('div', { class: 'page' }, firstSteps(this)));
      }).catch(() => {}); // the tree says what is wrong
    }
    return el;
  }
}

function decode(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

start();
