// The API for reading: openapi.json of this server, laid out. Nothing is
// written twice, so nothing here can differ from the document.

import { h, clear, button, icon, emptyPage, say } from './dom.js';

const methods = ['get', 'post', 'put', 'delete', 'head'];
let spec;

async function start() {
  try {
    const answer = await fetch('openapi.json');
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    spec = await answer.json();
  } catch (e) {
    clear(document.body, h('main', { class: 'page' }, emptyPage('alert', 'The document could not be read', e.message, h('a', { class: 'button', href: 'docs' }, 'Try again'))));
    return;
  }
  const operations = allOperations();
  const sections = spec.tags.map((tag) => section(tag, operations.filter((o) => o.tags[0] === tag.name)));
  const search = h('input', { type: 'search', id: 'search', placeholder: 'Search by path, name or words', 'aria-label': 'Search the operations' });
  const count = h('p', { class: 'soft small', role: 'status' });
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const el of document.querySelectorAll('.operation')) {
      el.hidden = !words.every((word) => el.dataset.words.includes(word));
      if (!el.hidden) shown++;
    }
    for (const s of sections) s.hidden = !s.querySelector('.operation:not([hidden])');
    count.textContent = words.length === 0 ? `${operations.length} operations` : shown === 1 ? '1 operation' : `${shown} operations`;
  };
  search.addEventListener('input', filter);
  clear(document.body,
    h('a', { class: 'skip', href: '#api' }, 'Skip to the content'),
    h('header', { class: 'bar' },
      h('a', { class: 'brand', href: './', 'aria-label': 'attachd, all places' }, icon('clip'), h('span', {}, 'attachd')),
      h('span', { class: 'grow' }),
      h('a', { class: 'button', href: 'openapi.json' }, 'openapi.json')),
    h('main', { class: 'page wide', id: 'api', tabindex: '-1' },
      h('h1', {}, 'The API'),
      h('p', {}, 'Base URL: ', h('code', { class: 'base' }, base)),
      h('p', {}, 'The commands below take your key from the environment: ', h('code', {}, `export ATTACHD_KEY=…`)),
      prose(spec.info.description),
      h('div', { class: 'search' }, icon('search'), search),
      count,
      sections,
      h('section', { 'aria-labelledby': 'schemas' }, h('h2', { id: 'schemas' }, 'Objects'),
        Object.entries(spec.components.schemas).map(([name, schema]) => folded(`schema-${name}`, h('code', {}, name), schema.description?.split('\n')[0] ?? '', () => describe(schema))))));
  filter();
  addEventListener('hashchange', reveal);
  reveal();
}

// reveal opens what the address names.
function reveal() {
  const el = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(el instanceof HTMLDetailsElement)) return;
  el.hidden = false;
  el.open = true;
  el.scrollIntoView();
  el.querySelector('summary').focus({ preventScroll: true });
}

function allOperations() {
  return Object.entries(spec.paths).flatMap(([path, item]) => methods.filter((m) => item[m]).map((method) => ({
    ...item[method], method, path, parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])],
  })));
}

function section(tag, operations) {
  const id = tag.name.toLowerCase().replaceAll(' ', '-');
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, tag.name), prose(tag.description), operations.map(operation));
}

function operation(o) {
  const title = [h('span', { class: `method ${o.method}` }, o.method.toUpperCase()), h('code', { class: 'path' }, breakable(o.path))];
  const el = folded(o.operationId, title, o.summary, () => [
    prose(o.description),
    command(o),
    o.security?.length === 0 ? h('p', { class: 'soft' }, 'Needs no key.') : null,
    parameters(o.parameters.map(resolve)),
    body(resolve(o.requestBody)),
    h('h3', {}, 'Answers'),
    Object.entries(o.responses).map(([status, r]) => response(status, resolve(r))),
  ]);
  el.classList.add('operation');
  el.dataset.words = `${o.method} ${o.path} ${o.operationId} ${o.summary} ${o.description}`.toLowerCase();
  return el;
}

// base is what all paths follow.
const base = new URL('.', location.href).href.replace(/\/$/, '');

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// curl is a command line that makes a call, with the examples of the document.
function curl(o) {
  const example = (p) => { const s = resolve(p.schema) ?? {}; return String(p.example ?? s.examples?.[0] ?? s.example ?? p.name.toUpperCase()); };
  const known = o.parameters.map(resolve);
  const path = o.path.replace(/{([^}]+)}/g, (_, name) => encodeURIComponent(example(known.find((p) => p.in === 'path' && p.name === name) ?? { name })));
  const query = known.filter((p) => p.in === 'query' && p.required).map((p) => `${p.name}=${encodeURIComponent(example(p))}`).join('&');
  const parts = ['curl', { get: '', head: '--head', post: '', put: '-X PUT', delete: '-X DELETE' }[o.method]];
  if (o.security?.length !== 0) parts.push('-H "Authorization: Bearer $ATTACHD_KEY"');
  parts.push(...payload(resolve(o.requestBody), o.method));
  const ok = resolve(o.responses['200'])?.content ?? {};
  if (o.method === 'get' && ok['application/octet-stream'] !== undefined || Object.keys(ok).some((t) => /^(image|\*)\//.test(t))) parts.push('-o FILE');
  return [...parts, quoted(`${base}${path}${query && `?${query}`}`)].filter(Boolean).join(' ');
}

// payload is what a command line sends.
function payload(content, method) {
  const [type, c] = Object.entries(content?.content ?? {})[0] ?? [];
  if (!type) return method === 'post' ? ['-X POST'] : [];
  if (type === 'multipart/form-data') return ['-F file=@FILE'];
  if (type !== 'application/json') return [`-H 'Content-Type: ${type}'`, '--data-binary @FILE'];
  const value = c.example ?? Object.values(c.examples ?? {}).map(resolve)[0]?.value ?? valuesOf(c.schema)[0] ?? {};
  return [`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(value))}`];
}

function command(o) {
  const line = h('pre', { class: 'curl', tabindex: '0', 'aria-label': 'Command line' }, curl(o));
  return h('div', { class: 'command' }, line, button('Copy', { class: 'plain', 'aria-label': 'Copy the command line', click: async () => {
    try {
      await navigator.clipboard.writeText(line.textContent);
      say('Command line copied.');
    } catch {
      getSelection().selectAllChildren(line);
    }
  } }));
}

// folded is built when it is first opened: most never are.
function folded(id, title, note, build) {
  let built = false;
  const el = h('details', { id, toggle: () => {
    if (!el.open || built) return;
    built = true;
    el.append(h('div', { class: 'docs-body' }, build()));
  } }, h('summary', {}, title, h('span', { class: 'soft small' }, plain(note))));
  return el;
}

function resolve(part) {
  if (!part?.$ref) return part;
  const { $ref, ...beside } = part;
  return { ...$ref.slice(2).split('/').reduce((at, name) => at[name], spec), ...beside };
}

function parameters(list) {
  if (list.length === 0) return null;
  return [h('h3', {}, 'Parameters'), table(['Name', 'In', 'Type', ''], list.map((p) => [
    [h('code', {}, p.name), p.required ? h('span', { class: 'small' }, ' required') : null], p.in, typeOf(p.schema), prose(p.description),
  ]))];
}

function body(b) {
  if (!b) return null;
  return [h('h3', {}, b.required ? 'Body' : 'Body, optional'), prose(b.description), contents(b.content, resolve)];
}

function response(status, r) {
  const headers = Object.entries(r.headers ?? {}).map(([name, header]) => [h('code', {}, name), prose(resolve(header).description)]);
  return h('div', { class: 'answer' }, h('h4', {}, status), h('div', { class: 'grow' }, prose(r.description), contents(r.content),
    headers.length > 0 ? h('details', {}, h('summary', { class: 'small' }, headers.length === 1 ? '1 header' : `${headers.length} headers`), table(['Header', ''], headers)) : null));
}

// contents shows what a body may be: that of a request with its members, that
// of an answer by an example and the name of its object.
function contents(content, open = (schema) => schema) {
  return Object.entries(content ?? {}).map(([type, c]) => {
    const schema = c.schema && open(c.schema);
    return [
      h('p', { class: 'small' }, h('code', {}, type), c.schema ? [' ', typeOf(c.schema)] : null),
      schema && !schema.$ref ? describe({ ...schema, examples: undefined }) : null,
      examples(c),
    ];
  });
}

function examples(c) {
  const shown = c.examples ? Object.values(c.examples).map(resolve) : c.example !== undefined ? [{ value: c.example }] : valuesOf(c.schema).map((value) => ({ value }));
  return shown.map((e) => h('figure', {}, e.summary ? h('figcaption', {}, e.summary) : null,
    h('pre', { tabindex: '0' }, typeof e.value === 'string' ? e.value : JSON.stringify(e.value, null, 2))));
}

// valuesOf are the examples of a schema; a list's are those of its items.
function valuesOf(schema) {
  const s = resolve(schema);
  if (s?.type === 'array' && !s.examples) return valuesOf(s.items).slice(0, 1).map((value) => [value]);
  return s?.examples ?? [];
}

// describe lists the members of an object.
function describe(schema) {
  const s = resolve(schema);
  const variants = s.oneOf ?? s.anyOf;
  const parts = [...(s.allOf ?? []).map(resolve), s];
  const members = parts.flatMap((part) => Object.entries(part.properties ?? {}));
  const required = parts.flatMap((part) => part.required ?? []);
  return [
    schema.$ref ? null : prose(s.description),
    variants ? h('ul', {}, variants.map((v) => h('li', {}, typeOf(v), v.$ref ? null : describe(v)))) : null,
    members.length > 0 ? table(['Member', 'Type', ''], members.map(([name, m]) => [
      [h('code', {}, name), required.includes(name) ? null : h('span', { class: 'soft small' }, ' optional')], typeOf(m), [prose(resolve(m).description), choices(m)],
    ])) : null,
    schema.$ref ? null : examples({ schema: s }),
  ];
}

function choices(m) {
  return m.enum && !m.description ? h('p', {}, m.enum.map((v, i) => [i > 0 ? ', ' : null, h('code', {}, String(v))])) : null;
}

function typeOf(schema) {
  if (!schema) return null;
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    return h('a', { href: `#schema-${name}` }, name);
  }
  if (schema.type === 'array') return ['list of ', typeOf(schema.items)];
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants) return variants.map((v, i) => [i > 0 ? ' or ' : null, typeOf(v)]);
  const word = [schema.type ?? (schema.const !== undefined ? JSON.stringify(schema.const) : 'any')].flat().join(' or ');
  const limits = [schema.format, 'minimum' in schema ? `at least ${schema.minimum}` : null, 'maximum' in schema ? `at most ${schema.maximum}` : null, 'default' in schema ? `default ${schema.default}` : null];
  return [word, ...limits.filter(Boolean).map((l) => `, ${l}`)];
}

function table(heads, rows) {
  return h('div', { class: 'sheet', tabindex: '0', role: 'group', 'aria-label': heads.filter(Boolean).join(', ') }, h('table', {},
    h('thead', {}, h('tr', {}, heads.map((name) => h('th', { scope: 'col' }, name || h('span', { class: 'unseen' }, 'Description'))))),
    h('tbody', {}, rows.map((row) => h('tr', {}, row.map((cell) => h('td', {}, cell)))))));
}

// breakable lets a path break at its slashes where a screen is narrow.
function breakable(path) {
  return path.split('/').flatMap((part, i) => (i === 0 ? [part] : ['/', h('wbr'), part]));
}

// The document's descriptions use this much of Markdown: paragraphs, tables,
// `code`, **bold**.
function prose(text) {
  if (!text) return null;
  return text.split(/\n\n+/).map((block) => {
    if (!block.startsWith('|')) return h('p', {}, inline(block));
    const [head, , ...rows] = block.split('\n').map((line) => line.replace(/^\|\s*|\s*\|$/g, '').split(/\s*\|\s*/));
    return table(head, rows.map((row) => row.map(inline)));
  });
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith('`')) return h('code', {}, part.slice(1, -1));
    if (part.startsWith('**')) return h('strong', {}, part.slice(2, -2));
    return part;
  });
}

const plain = (text) => text.replaceAll('`', '');

start();
