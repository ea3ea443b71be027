// Charts that are also tables: bars that a screen reader reads as a list.

import { h, svg } from './dom.js';

// bars are lines of text with a bar each.
export function bars(items, label) {
  const most = Math.max(1, ...items.map((i) => i.value));
  return h('ul', { class: 'bars', 'aria-label': label }, items.map((i) => {
    const bar = h('span', { class: 'bar-fill', 'aria-hidden': 'true' });
    bar.style.width = `${Math.max(i.value ? 1 : 0, (i.value / most) * 100)}%`;
    return h('li', {}, h('span', { class: 'bar-name' }, h('bdi', {}, i.name)), h('span', { class: 'bar-track' }, bar), h('span', { class: 'bar-value' }, i.text));
  }));
}

// columns are hours or days in a row, with two values each.
export function columns(items, label, legend) {
  const most = Math.max(1, ...items.map((i) => Math.max(...i.values)));
  const width = 24 * items.length;
  const chart = svg('svg', { class: 'columns', viewBox: `0 0 ${width} 120`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
  items.forEach((item, i) => item.values.forEach((value, n) => {
    const height = value ? Math.max(2, (value / most) * 112) : 0;
    chart.append(svg('rect', { class: `series-${n}`, x: i * 24 + 3 + n * 9, y: 118 - height, width: 8, height }, svg('title', {}, document.createTextNode(`${item.name}: ${value.toLocaleString()} ${legend[n]}`))));
  }));
  chart.append(svg('line', { x1: 0, x2: width, y1: 119, y2: 119, class: 'axis' }));
  return h('figure', { class: 'chart' },
    h('figcaption', {}, legend.map((name, n) => h('span', { class: 'legend' }, h('i', { class: `swatch series-${n}`, 'aria-hidden': 'true' }), name))),
    chart,
    h('div', { class: 'axis-labels', 'aria-hidden': 'true' }, [0, Math.floor(items.length / 2), items.length - 1].map((i) => h('span', {}, items[i]?.name ?? ''))),
    h('div', { class: 'unseen' }, h('table', {}, h('caption', {}, label),
      h('thead', {}, h('tr', {}, h('th', {}, 'Hour'), legend.map((l) => h('th', {}, l)))),
      h('tbody', {}, items.map((i) => h('tr', {}, h('th', { scope: 'row' }, i.name), i.values.map((v) => h('td', {}, String(v)))))))));
}

// meter shows how full something is.
export function meter(parts, label) {
  const total = parts.reduce((n, p) => n + p.value, 0) || 1;
  return h('div', { class: 'meter', role: 'img', 'aria-label': label }, parts.map((p) => {
    const el = h('span', { class: p.kind, title: p.name });
    el.style.width = `${(p.value / total) * 100}%`;
    return el;
  }));
}
