// Files whose content is missing or damaged, each with where it is and whose it
// is.

import { h } from './dom.js';
import { relative, exact } from './format.js';
import * as api from './api.js';

export const whatIsWrong = { missing: 'Missing', damaged: 'Damaged' };
const most = 500; // that are shown

export function faultList(faults) {
  return h('ul', { class: 'faults' }, faults.slice(0, most).map((f) => h('li', {},
    h('span', { class: 'badge bad' }, whatIsWrong[f.what]), ' ',
    h('a', { href: `${api.placeOf(f.kind, f.parent_id, f.space).hash}?file=${f.attachment_id}` }, h('bdi', {}, f.file_name)),
    ' in ', h('bdi', {}, f.parent_name || f.parent_id), ' (', h('bdi', {}, f.space), '), uploaded by ', h('bdi', {}, f.uploaded_by.full_name), ' ',
    h('time', { datetime: f.created_at, title: exact(f.created_at) }, relative(f.created_at)))),
  faults.length > most ? h('li', {}, `and ${(faults.length - most).toLocaleString()} more`) : null);
}

export const repair = 'Uploading the same file again, or a restore from a backup, repairs one.';
