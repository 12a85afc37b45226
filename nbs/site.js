// What the pages of the site gain in a browser: tables that sort, scrolling parts that a keyboard reaches, a search that works on files too.
(() => {
  'use strict';
  const each = (selector, act, within = document) => within.querySelectorAll(selector).forEach(act);

  // ---- tables: a click on a column's head sorts up, then down, then as it was; of `55.0 [45, 65]` and `12.3 → 9.2` the first number counts
  const NUMBER = /^[^\w−–+-]*([+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d-]|\w*:)/i;
  const number = (text) => { const m = NUMBER.exec(text); return m ? parseFloat(m[1].replace(/,/g, '').replace('−', '-')) : NaN; };
  const nothing = (text) => /^[–—-]?$|^nan$/i.test(text);

  function sortable(table) {
    const heads = table.tHead && table.tHead.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
    const body = table.tBodies[0], rows = body ? [...body.rows] : [];
    if (!heads.length || heads[0].textContent.trim() === 'parameter') return; // parameters have an order of their own
    if (rows.length < 2 || rows.some((r) => r.cells.length !== heads.length)) return; // joined cells cannot change places
    const text = (row, i) => row.cells[i].textContent.trim();
    heads.forEach((head, i) => {
      if (head.tagName !== 'TH' || !head.textContent.trim() || head.querySelector('a, button')) return;
      const button = document.createElement('button');
      button.type = 'button'; button.className = 'sort'; button.append(...head.childNodes); head.append(button);
      head.setAttribute('aria-sort', 'none');
      button.addEventListener('click', () => {
        const next = { none: 'ascending', ascending: 'descending', descending: 'none' }[head.getAttribute('aria-sort')];
        heads.forEach((h) => { if (h.hasAttribute('aria-sort')) h.setAttribute('aria-sort', 'none'); });
        head.setAttribute('aria-sort', next);
        const said = rows.filter((r) => !nothing(text(r, i)));
        const numbers = said.every((r) => !isNaN(number(text(r, i)))), sign = next === 'descending' ? -1 : 1;
        const order = (a, b) => sign * (numbers ? number(text(a, i)) - number(text(b, i)) : text(a, i).localeCompare(text(b, i), undefined, { numeric: true }));
        body.append(...(next === 'none' ? rows : [...said.sort(order), ...rows.filter((r) => nothing(text(r, i)))])); // what is not known comes last
      });
    });
  }

  // ---- what scrolls within itself can be reached by a keyboard, and says what it is
  function reachable(part) {
    const scrolls = part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1;
    if (!scrolls) { if (part.dataset.scrolls) { part.removeAttribute('tabindex'); part.removeAttribute('role'); part.removeAttribute('aria-label'); delete part.dataset.scrolls; } return; }
    part.dataset.scrolls = 'yes'; part.tabIndex = 0; part.setAttribute('role', 'group');
    part.setAttribute('aria-label', part.tagName === 'PRE' ? 'Code or output, scrolls' : part.querySelector('svg') ? 'Drawing, scrolls' : 'Table, scrolls');
  }
  const SCROLLING = 'main pre, main .table-scroll, main .drawing';

  // ---- a page that is opened as a file may not fetch the search index; a script it may load
  if (location.protocol === 'file:') {
    const fetched = window.fetch, own = new URL('search.js', document.currentScript.src).href;
    window.fetch = (what, ...more) => !String(what).endsWith('search.json') ? fetched(what, ...more) : new Promise((done, fail) => {
      const script = document.createElement('script');
      script.src = own; script.onerror = fail; script.onload = () => done(new Response(JSON.stringify(window.searchIndex)));
      document.head.append(script);
    });
  }

  document.addEventListener('DOMContentLoaded', () => {
    each('main table', sortable);
    each('a[role=button]:not([href])', (a) => a.addEventListener('keydown', (e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); a.click(); } }));
    each(SCROLLING, reachable);
    window.addEventListener('resize', () => each(SCROLLING, reachable));
  });
})();
