// Building the page without ever parsing markup: everything that is shown goes
// through text nodes and attributes.

const SVG = 'http://www.w3.org/2000/svg';

// h makes an element. Functions among the properties are listeners by their
// event's name, null and false leave a property or child out.
export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') el.addEventListener(name, value);
    else if (name === 'value' || name === 'checked' || name === 'indeterminate') el[name] = value;
    else el.setAttribute(name, value === true ? '' : value);
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

export function clear(el, ...children) {
  el.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

export function svg(tag, attributes, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

const paths = {
  alert: 'M12 8v5M12 16.500v.1M12 3 2.5 20h19z',
  archive: 'M4 4h16v4H4zM6 8v12h12V8M10 12h4',
  audio: 'M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z',
  back: 'M14.5 5 8 12l6.5 7',
  box: 'M12 3 4 7v10l8 4 8-4V7zM4 7l8 4 8-4M12 11v10',
  calendar: 'M4 6h16v14H4zM4 10h16M8 3v4M16 3v4',
  check: 'm5 12.5 4.5 4.500L19 7',
  clip: 'M18.5 11.5 11 19a4.6 4.6 0 0 1-6.5-6.500l8-8a3.1 3.1 0 0 1 4.4 4.400l-8 8a1.5 1.5 0 0 1-2.2-2.200l7.3-7.2',
  close: 'm6 6 12 12M18 6 6 18',
  code: 'm8 8-4 4 4 4M16 8l4 4-4 4M13.5 5l-3 14',
  document: 'M6 3h8l4 4v14H6zM14 3v4h4M9 11h6M9 14h6M9 17h3',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  edit: 'M4 20l1-4.500L16 4.500l3.500 3.500L8.500 19zM13.500 7l3.500 3.500',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  gauge: 'M4 18a9 9 0 1 1 16 0M12 14l4-5',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.500v.1',
  key: 'M8.5 19a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM11.7 11.3 19 4M15.5 7.5l3 3',
  link: 'M10 14a4 4 0 0 0 6 .4l3-3a4.2 4.2 0 0 0-6-6l-1.5 1.500M14 10a4 4 0 0 0-6-.4l-3 3a4.2 4.2 0 0 0 6 6l1.5-1.5',
  next: 'm9.5 5 6.5 7-6.5 7',
  pdf: 'M6 3h8l4 4v14H6zM14 3v4h4M9 17c2-2 3-5 2.800-7 1 3 2 4.500 3.700 4.800-2.200-.2-4.600.6-6.500 2.200z',
  people: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6M16 4.500a3.5 3.5 0 0 1 0 6M18 14.500c2.5.8 3.5 3 3.5 5.5',
  retry: 'M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5',
  table: 'M4 5h16v14H4zM4 10h16M4 14.500h16M10 5v14',
  text: 'M4 6h16M4 10h16M4 14h16M4 18h9',
  ticket: 'M4 7h16v3.500a1.5 1.5 0 0 0 0 3V17H4v-3.500a1.5 1.5 0 0 0 0-3zM14 7v10',
  trash: 'M5 7h14M10 4h4M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5',
  upload: 'M12 16V5M7 9l5-5 5 5M5 20h14',
  video: 'M4 6h12v12H4zM16 10l5-3v10l-5-3',
};

export function icon(name) {
  return svg('svg', { class: `icon icon-${name}`, viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: paths[name] ?? paths.file }));
}

export function button(label, props = {}) {
  const { icon: name, quiet, ...rest } = props;
  return h('button', { type: 'button', 'aria-label': quiet ? label : null, title: quiet ? label : null, ...rest },
    name ? icon(name) : null, quiet ? null : h('span', {}, label));
}

// unpressed gives a function that runs another, but not while the mouse or a
// finger is down in el: what is under it must still be there when it is lifted,
// or there is no click.
export function unpressed(el) {
  let pressed = false;
  const waiting = new Set();
  const release = () => {
    if (!pressed) return;
    pressed = false;
    setTimeout(() => { for (const run of waiting) { waiting.delete(run); run(); } }); // after the click
  };
  el.addEventListener('pointerdown', (e) => {
    if (e.button) return;
    pressed = true;
    for (const name of ['pointerup', 'pointercancel', 'blur']) addEventListener(name, release, { once: true });
  });
  return (run) => { if (pressed) waiting.add(run); else run(); };
}

// say has screen readers announce something.
let live;
export function say(sentence) {
  live ??= document.body.appendChild(h('div', { class: 'unseen', role: 'status', 'aria-live': 'polite' }));
  live.textContent = '';
  setTimeout(() => { live.textContent = sentence; }, 50);
}

// fileName shows a name so that no script in it can disguise its end: what
// stands behind the last dot is set apart from the rest.
export function fileName(name) {
  const dot = name.lastIndexOf('.');
  const [stem, end] = dot > 0 && name.length - dot <= 12 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  return h('span', { class: 'file-name', title: name }, h('bdi', { class: 'stem' }, stem), end ? h('bdi', { class: 'end' }, end) : null);
}

// empty is what stands where there is nothing yet; emptyPage where there is
// nothing else.
export const empty = (...args) => nothing('h2', ...args);
export const emptyPage = (...args) => nothing('h1', ...args);

function nothing(heading, name, title, sentence, ...actions) {
  return h('div', { class: 'empty' }, icon(name), h(heading, {}, title), sentence ? h('p', {}, sentence) : null, ...actions);
}
