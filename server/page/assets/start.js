// What a superadmin does first: make a space here, or many things by commands and the API.

import { h, button, say } from './dom.js';
import * as api from './api.js';
import { newSpace } from './make.js';

function command(text) {
  return h('div', { class: 'command' }, h('pre', { tabindex: '0', 'aria-label': 'Command' }, text),
    button('Copy', { class: 'plain', 'aria-label': 'Copy the command', click: async () => {
      try {
        await navigator.clipboard.writeText(text);
        say('Command copied.');
      } catch { say('The browser does not allow copying here: select the text.'); }
    } }));
}

export function firstSteps(app) {
  return [newSpace(app, 'Make space'), h('details', { class: 'steps' }, h('summary', {}, 'By commands instead'),
    h('p', {}, 'In a terminal where attachd is installed, with a superadmin’s key (the first is in the file admin.key of the data directory):'),
    command(`export ATTACHD_SERVER='${api.at('/')}' ATTACHD_KEY=…`),
    h('p', {}, 'A space with a product:'),
    command('attachd space add analytics --name "Analytics"\nattachd product add analytics "Orders"'),
    h('p', {}, 'A person who may upload there. Their key is made under ', h('a', { href: '#/operator/people' }, 'People'), ':'),
    command('attachd user add "Ada Lovelace"\nattachd member add analytics "Ada Lovelace" editor'),
    h('p', {}, 'Change the names as you like. Tickets, meetings and the rest are in ', h('a', { href: api.at('/manual') }, 'the manual'), ', and what programs can do in ', h('a', { href: api.at('/docs') }, 'the API'), '.'),
    h('div', { class: 'buttons' }, button('Reload', { icon: 'retry', click: () => location.reload() })))];
}
