(function () {
  "use strict";
  var root = document.documentElement, byId = function (id) { return document.getElementById(id); };
  var all = function (sel, el) { return Array.prototype.slice.call((el || document).querySelectorAll(sel)); };
  var number = function (n) { return String(n).replace(/\B(?=(\d{3})+$)/g, ","); };
  root.classList.add("on");

  // Light and dark. A browser may forbid storage to a page from file://.
  var keep = {
    get: function () { try { return localStorage.getItem("monitor-theme"); } catch (e) { return null; } },
    set: function (v) { try { localStorage.setItem("monitor-theme", v); } catch (e) { return; } }
  };
  var saved = keep.get();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  byId("theme").addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep.set(root.dataset.theme);
  });

  // Findings.
  var form = byId("filters");
  if (form) {
    var items = all("#list .finding"), fold = byId("trialfold"), text = new Map();
    // Long lists come by the page; the fold has pages of its own.
    var step = 50, upTo = step, next = byId("next");
    var linked = items.indexOf(byId(location.hash.slice(1)));
    if (linked >= 0) upTo = Math.max(upTo, linked + 1);
    var apply = function () {
      var q = byId("q").value.trim().toLowerCase(), rule = byId("rule").value, by = byId("by").value, lang = byId("lang");
      var anyLang = lang.selectedIndex === 0, shown = 0, inFold = 0, seen = 0;
      var ranks = all("input[name=rank]:checked", form).map(function (i) { return i.value; });
      items.forEach(function (el) {
        var d = el.dataset, ok = ranks.indexOf(d.rank) >= 0 && (!rule || d.rule === rule) && (!by || d.by === by) && (anyLang || d.lang === lang.value);
        if (ok && q) {
          if (!text.has(el)) text.set(el, el.textContent.toLowerCase());
          ok = text.get(el).indexOf(q) >= 0;
        }
        var nth = 0;
        if (ok) { shown++; nth = fold && d.by === "model" ? ++inFold : shown - inFold; }
        if (nth > upTo) ok = false;
        if (ok) seen++;
        el.hidden = !ok;
      });
      if (fold) { fold.hidden = !inFold; if (by === "model" || (q && inFold)) fold.open = true; }
      next.hidden = seen === shown;
      next.textContent = "Show " + Math.min(step, shown - seen) + " more";
      byId("shown").textContent = (seen < shown ? "first " + number(seen) + " of " : "") + (shown === items.length ? number(shown) + (shown === 1 ? " finding" : " findings") : number(shown) + (seen < shown ? " matches among " : " of ") + number(items.length));
      byId("none").hidden = shown > 0;
    };
    var anew = function () { upTo = step; apply(); };
    form.addEventListener("input", anew);
    // The search says "change" when it loses the focus, also to the button below.
    form.addEventListener("change", function (e) { if (e.target.id !== "q") anew(); });
    next.addEventListener("click", function () {
      var was = new Set(items.filter(function (el) { return !el.hidden; }));
      upTo += step;
      apply();
      // The keyboard goes on where the new ones start.
      var fresh = items.filter(function (el) { return !el.hidden && !was.has(el); })[0];
      if (fresh) fresh.querySelector("summary").focus({ preventScroll: true });
    });
    addEventListener("beforeprint", function () { upTo = Infinity; apply(); });
    addEventListener("afterprint", anew);
    form.addEventListener("submit", function (e) { e.preventDefault(); });
    byId("reset").addEventListener("click", function () { form.reset(); anew(); });
    byId("unfold").addEventListener("click", function () {
      var open = this.textContent === "Open all";
      items.forEach(function (el) { el.open = open; });
      this.textContent = open ? "Close all" : "Open all";
    });
    apply();
  }
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = all("details:not([open])");
    closed.forEach(function (d) { d.open = true; });
  });
  addEventListener("afterprint", function () { closed.forEach(function (d) { d.open = false; }); });

  // Tables: a click on a head sorts, numbers downwards first.
  var value = function (row, i) {
    var t = row.cells[i].textContent.trim(), n = t.replace(/,/g, "");
    return n !== "" && !isNaN(n) ? Number(n) : t.toLowerCase();
  };
  all("table.sort").forEach(function (table) {
    all("thead th", table).forEach(function (th, i) {
      var button = document.createElement("button");
      button.type = "button";
      while (th.firstChild) button.appendChild(th.firstChild);
      th.appendChild(button);
      button.addEventListener("click", function () {
        var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows);
        var keys = new Map(rows.map(function (r) { return [r, value(r, i)]; }));
        var numbers = rows.some(function (r) { return typeof keys.get(r) === "number"; });
        var was = th.getAttribute("aria-sort"), up = was ? was === "descending" : !numbers;
        rows.sort(function (a, b) {
          var x = keys.get(a), y = keys.get(b), c = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
          return up ? c : -c;
        });
        all("thead th", table).forEach(function (o) { o.removeAttribute("aria-sort"); });
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        rows.forEach(function (r) { body.appendChild(r); });
        if (table.id === "filetable") showFiles();
      });
    });
  });

  // Files: those behind the fold join the table, so that sort and search see all.
  var ft = byId("filetable"), more = byId("morefiles"), limit = 500, showFiles = function () { return; };
  if (ft) {
    if (more) {
      all("tbody tr", more).forEach(function (r) { ft.tBodies[0].appendChild(r); });
      more.remove();
    }
    var whole = false, fmore = byId("fmore");
    showFiles = function () {
      var q = byId("fq").value.trim().toLowerCase(), hits = 0, rows = ft.tBodies[0].rows;
      for (var i = 0; i < rows.length; i++) {
        var ok = !q || rows[i].textContent.toLowerCase().indexOf(q) >= 0;
        if (ok) hits++;
        rows[i].hidden = !ok || (!whole && hits > limit);
      }
      var seen = whole ? hits : Math.min(hits, limit);
      byId("fshown").textContent = seen === rows.length ? number(seen) + (seen === 1 ? " file" : " files") : number(seen) + " of " + number(rows.length);
      fmore.hidden = whole || hits <= limit;
    };
    byId("fq").addEventListener("input", showFiles);
    fmore.addEventListener("click", function () { whole = true; showFiles(); });
    showFiles();
  }

  // What is wider than its box fades at the edge and says so.
  var boxes = all(".scroll");
  var edge = function (el) {
    var h = el.previousElementSibling;
    el.classList.toggle("cut", el.scrollWidth - el.clientWidth - el.scrollLeft > 4);
    if (h && h.classList.contains("hint")) h.classList.toggle("yes", el.scrollWidth - el.clientWidth > 4);
  };
  boxes.forEach(function (el) { el.addEventListener("scroll", function () { edge(el); }, { passive: true }); edge(el); });
  addEventListener("resize", function () { boxes.forEach(edge); });
  document.addEventListener("toggle", function () { boxes.forEach(edge); }, true);

  // Tooltips take the place of the browser's own.
  var tip = byId("tooltip"), tips = new WeakMap();
  all("svg title").forEach(function (t) {
    tips.set(t.parentNode, t.textContent);
    t.parentNode.setAttribute("aria-label", t.textContent.replace(/\n/g, ", "));
    t.remove();
  });
  var owner = function (el) {
    while (el && el.nodeType === 1) { if (tips.has(el)) return el; el = el.parentNode; }
    return null;
  };
  var show = function (el, x, y) {
    tip.textContent = tips.get(el);
    tip.hidden = false;
    var w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - w - 6)) + "px";
    tip.style.top = (y + 18 + h > innerHeight ? Math.max(6, y - h - 12) : y + 18) + "px";
  };
  document.addEventListener("pointermove", function (e) {
    var el = owner(e.target);
    if (el) show(el, e.clientX, e.clientY); else tip.hidden = true;
  });
  document.addEventListener("focusin", function (e) {
    var el = owner(e.target);
    if (el && el.matches(":focus-visible")) { var b = el.getBoundingClientRect(); show(el, b.left, b.bottom - 14); } else tip.hidden = true;
  });
  document.addEventListener("keydown", function (e) { if (e.key === "Escape") tip.hidden = true; });

  // The graph: a box and its neighbours.
  var graph = document.querySelector("svg.graph");
  if (graph) {
    var nodes = all(".node", graph), edges = all(".e", graph);
    var light = function (node) {
      graph.classList.toggle("lit", !!node);
      if (!node) return;
      var i = node.dataset.i, near = node.dataset.n.split(" ");
      nodes.forEach(function (n) { n.classList.toggle("lit", n === node || near.indexOf(n.dataset.i) >= 0); });
      edges.forEach(function (e) { e.classList.toggle("lit", e.dataset.a === i || e.dataset.b === i); });
    };
    nodes.forEach(function (n) {
      n.addEventListener("pointerenter", function () { light(n); });
      n.addEventListener("pointerleave", function () { light(null); });
      n.addEventListener("focus", function () { light(n); });
      n.addEventListener("blur", function () { light(null); });
    });
  }
})();
