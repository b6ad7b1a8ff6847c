"use strict";
// The findings table, the cells of the map, and, where the page is served, the next window. Every text goes through
// textContent; the page's policy forbids anything else.
(() => {
  const PAGE = 50;
  const FIELDS = ["text", "severity", "verdict", "code", "role", "from", "to", "host", "port"];
  const SEVERITIES = ["info", "low", "medium", "high", "critical"];
  const byId = (id) => document.getElementById(id);
  let data = JSON.parse(byId("data").textContent);
  // What is shown: filters, order, page, the open finding, the chosen cell. All of it stands in the address.
  let state = {};
  let writing = false;

  // What turns text around or is not seen is written out, as everywhere in the reports.
  const STEERS = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
  const clean = (text) => String(text).replace(STEERS, (c) => "\\u{" + c.charCodeAt(0).toString(16) + "}");

  const make = (name, text, attributes) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = clean(text);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  };

  const read = () => {
    const [view, query] = location.hash.slice(1).split("?");
    const next = { view, sort: "", page: 1, open: "", cell: "" };
    const given = new URLSearchParams(query || "");
    for (const name of FIELDS) next[name] = given.get(name) || "";
    for (const name of ["sort", "open", "cell"]) next[name] = given.get(name) || "";
    next.page = Math.max(1, parseInt(given.get("page"), 10) || 1);
    return next;
  };

  const address = (changes) => {
    const next = { ...state, ...changes };
    const query = new URLSearchParams();
    for (const name of [...FIELDS, "sort", "open", "cell"]) if (next[name]) query.set(name, next[name]);
    if (next.page > 1) query.set("page", next.page);
    const text = query.toString();
    return "#" + (next.view || "findings") + (text ? "?" + text : "");
  };

  // Changes what is shown, without a jump of the page.
  const change = (changes) => {
    writing = true;
    history.replaceState(null, "", address({ view: "findings", ...changes }));
    writing = false;
    state = read();
    render();
  };

  const has = (text, part) => String(text).toLowerCase().includes(part.toLowerCase());
  const inPorts = (text, wanted) => String(text).split(";").some((port) => port === wanted) || text === "*";

  const fits = (f) => {
    const roles = [...f.client_roles, ...f.server_roles];
    const roleFits = (list, wanted) => !wanted || (wanted === "none" ? list.length === 0 : list.includes(wanted));
    return (!state.severity || f.severity === state.severity)
      && (!state.verdict || f.verdict === state.verdict)
      && (!state.code || f.code === state.code)
      && (!state.role || roles.includes(state.role))
      && roleFits(f.client_roles, state.from) && roleFits(f.server_roles, state.to)
      && (!state.host || [f.client, f.client_name, f.server, f.server_name].some((name) => has(name, state.host)))
      && (!state.port || inPorts(f.port, state.port))
      && (!state.text || [f.message, f.action, f.id, f.rule, f.group, ...f.trace].some((text) => has(text, state.text)));
  };

  const end = (address, name) => (name && address && address !== "*" ? name + " (" + address + ")" : name || address || "any");
  const keys = {
    severity: (f) => -SEVERITIES.indexOf(f.severity),
    verdict: (f) => f.verdict + "/" + f.code,
    client: (f) => f.client_name || f.client || f.client_roles.join(),
    server: (f) => f.server_name || f.server || f.server_roles.join(),
    port: (f) => parseInt(f.port, 10) || 0,
    count: (f) => f.count,
    message: (f) => f.message,
  };

  const chosen = () => {
    const list = data.findings.filter(fits);
    const [key, order] = state.sort.split("-");
    if (keys[key]) {
      const sign = order === "down" ? -1 : 1;
      const value = keys[key];
      const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
      // Sorting is stable: what is equal stays worst first.
      list.sort((a, b) => sign * compare(value(a), value(b)));
    }
    return list;
  };

  const roleName = (slug) => (data.roles.find((role) => role[0] === slug) || [slug, slug])[1];
  const party = (address, name, roles) => {
    const cell = make("td");
    cell.append(make("bdi", end(address, name)));
    if (roles.length) cell.append(make("br"), make("span", roles.map(roleName).join(", "), { class: "faint" }));
    return cell;
  };

  const copy = async (text, button) => {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // Not every place a page comes from may write the clipboard.
      const field = make("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Copy failed";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };

  const table = (heads, rows) => {
    const scroll = make("div", null, { class: "scroll" });
    const whole = make("table");
    const head = make("tr");
    heads.forEach((text) => head.append(make("th", text, { scope: "col" })));
    whole.append(make("thead"), make("tbody"));
    whole.tHead.append(head);
    rows.forEach((row) => whole.tBodies[0].append(row));
    scroll.append(whole);
    return scroll;
  };

  // Rows of the matrix view, by position, to be shown elsewhere too.
  const matrixRows = (numbers) => {
    const rows = numbers.map((number) => byId("row-" + number)).filter(Boolean).map((row) => {
      const copied = row.cloneNode(true);
      copied.removeAttribute("id");
      return copied;
    });
    const heads = document.querySelector("#matrix table.rows thead tr");
    return table(heads ? [...heads.children].map((cell) => cell.textContent) : [], rows);
  };

  const detail = (f) => {
    const row = make("tr", null, { class: "detail" });
    const cell = make("td", null, { colspan: "7" });
    row.append(cell);
    cell.append(make("p", f.message));
    if (f.action) {
      cell.append(make("h3", "What to do"), make("p", f.action));
    }
    cell.append(make("h3", "Evidence"));
    const trace = make("ol");
    f.trace.forEach((line) => trace.append(make("li", line)));
    cell.append(trace);
    const doubt = f.certain ? "This is certain." : "This is not certain, because of: " + f.doubt.join(", ") + ".";
    cell.append(make("p", doubt));
    if (f.first_seen) cell.append(make("p", "Seen from " + f.first_seen + " to " + f.last_seen + ".", { class: "faint" }));
    if (f.display_filter) {
      cell.append(make("h3", "Wireshark"));
      const line = make("p");
      const button = make("button", "Copy", { type: "button", class: "copy", "aria-label": "Copy the Wireshark filter" });
      button.addEventListener("click", () => copy(f.display_filter, button));
      line.append(make("span", f.display_filter, { class: "filter" }), button);
      cell.append(line);
    }
    if (f.talkers.length) {
      cell.append(make("h3", f.count > f.talkers.length ? "The largest of " + f.count + " conversations" : "Conversations"));
      cell.append(table(["Client", "Server", "Port", "State", "Packets", "Bytes", "From", "Until"], f.talkers.map((t) => {
        const line = make("tr");
        [t.client, t.server, t.port, t.state].forEach((text) => line.append(make("td", text)));
        [t.packets, t.bytes].forEach((text) => line.append(make("td", text, { class: "number" })));
        [t.first, t.last].forEach((text) => line.append(make("td", text, { class: "time" })));
        return line;
      })));
    }
    if (f.near.length) {
      cell.append(make("h3", "The nearest rows of the matrix"));
      cell.append(matrixRows(f.near));
    }
    const link = make("a", "Link to this finding", { href: "#findings?open=" + f.id });
    const last = make("p");
    last.append(link, " ", make("code", f.id));
    cell.append(last);
    return row;
  };

  const line = (f) => {
    const row = make("tr", null, { class: "row", id: "finding-" + f.id });
    const open = state.open === f.id;
    row.append(make("td", f.severity, { class: "sev " + f.severity }));
    const verdict = make("td", f.verdict + "/" + f.code);
    if (!f.certain) verdict.append(" ", make("span", "not certain", { class: "tag" }));
    if (f.since === "new") verdict.append(" ", make("span", "new", { class: "tag" }));
    row.append(verdict, party(f.client, f.client_name, f.client_roles), party(f.server, f.server_name, f.server_roles));
    row.append(make("td", (f.transport + " " + f.port).trim()), make("td", f.count || "", { class: "number" }));
    const what = make("td");
    const button = make("button", f.message, { type: "button", class: "toggle", "aria-expanded": String(open) });
    what.append(button);
    row.append(what);
    const toggle = () => {
      change({ open: open ? "" : f.id });
      const again = byId("finding-" + f.id);
      if (again) again.querySelector(".toggle").focus({ preventScroll: true });
    };
    row.addEventListener("click", (event) => {
      // Who marks text to copy it does not want it gone.
      if (String(getSelection())) return;
      event.preventDefault();
      toggle();
    });
    return row;
  };

  const fill = (select, values) => {
    while (select.options.length > 1) select.remove(1);
    values.forEach(([value, text]) => select.append(make("option", text, { value })));
  };

  const unique = (values) => [...new Set(values)].sort();

  const fillFilters = () => {
    const form = byId("filters");
    const words = (key) => unique(data.findings.map((f) => f[key])).map((word) => [word, word]);
    fill(form.elements.severity, SEVERITIES.slice().reverse().map((word) => [word, word]));
    fill(form.elements.verdict, words("verdict"));
    fill(form.elements.code, words("code"));
    const roles = (of) => unique(data.findings.flatMap(of)).map((slug) => [slug, roleName(slug)]);
    fill(form.elements.role, roles((f) => [...f.client_roles, ...f.server_roles]));
    fill(form.elements.from, [...roles((f) => f.client_roles), ["none", "nobody listed"]]);
    fill(form.elements.to, [...roles((f) => f.server_roles), ["none", "nobody listed"]]);
  };

  const render = (all) => {
    const form = byId("filters");
    if (!form) return;
    form.hidden = false;
    FIELDS.forEach((name) => {
      const field = form.elements[name];
      if (field === document.activeElement && field.tagName === "INPUT") return;
      // A link may name what this report does not have.
      if (state[name] && field.options && ![...field.options].some((option) => option.value === state[name])) {
        field.append(make("option", state[name], { value: state[name] }));
      }
      field.value = state[name];
    });
    const list = chosen();
    const pages = Math.max(1, Math.ceil(list.length / PAGE));
    const page = Math.min(state.page, pages);
    let shown = all ? list.slice(0, 10 * PAGE) : list.slice((page - 1) * PAGE, page * PAGE);
    // A link to a finding shows it, wherever it would be.
    const opened = data.findings.find((f) => f.id === state.open);
    if (opened && !shown.includes(opened)) shown = [opened, ...shown];
    const total = data.findings.length;
    const noun = total === 1 ? " finding" : " findings";
    let words = list.length === total ? total + noun : list.length + " of " + total + noun;
    if (data.total > total) words += " (the " + total + " worst of " + data.total + "; all of them are in findings.csv)";
    if (state.open && !opened) words += "; finding " + state.open + " is not in this report";
    byId("count").textContent = words;
    const body = byId("list").tBodies[0];
    const rows = [];
    shown.forEach((f) => {
      rows.push(line(f));
      if (all || f.id === state.open) rows.push(detail(f));
    });
    body.replaceChildren(...rows);
    byId("list").hidden = shown.length === 0;
    document.querySelectorAll("#list thead th").forEach((head) => {
      const [key, order] = state.sort.split("-");
      if (head.dataset.key === key) head.setAttribute("aria-sort", order === "down" ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const nav = byId("pages");
    nav.hidden = pages < 2 || Boolean(all);
    const step = (text, to) => {
      const button = make("button", text, { type: "button" });
      button.disabled = to < 1 || to > pages;
      button.addEventListener("click", () => {
        change({ page: to });
        byId("findings").scrollIntoView();
      });
      return button;
    };
    nav.replaceChildren(step("Earlier", page - 1), make("span", "Page " + page + " of " + pages), step("Later", page + 1));
  };

  // The rows of the matrix and the findings of a cell of the map.
  const renderCell = () => {
    const place = byId("cell");
    if (!place) return;
    document.querySelectorAll("#map a[aria-current]").forEach((link) => link.removeAttribute("aria-current"));
    const link = [...document.querySelectorAll("#map td a")].find((a) => a.getAttribute("href") === "#map?cell=" + state.cell);
    place.hidden = !link;
    place.replaceChildren();
    if (!link) return;
    link.setAttribute("aria-current", "true");
    const [from, to] = state.cell.split("~");
    place.append(make("h3", link.getAttribute("aria-label")));
    const count = data.findings.filter((f) => (from === "none" ? !f.client_roles.length : f.client_roles.includes(from))
      && (to === "none" ? !f.server_roles.length : f.server_roles.includes(to))).length;
    if (count) {
      const query = new URLSearchParams({ from, to });
      const line = make("p");
      line.append(make("a", count === 1 ? "Show its finding" : "Show its " + count + " findings", { href: "#findings?" + query }));
      place.append(line);
    }
    const rows = link.dataset.rows.split(" ").filter(Boolean);
    if (rows.length) place.append(matrixRows(rows));
    else place.append(make("p", "No row of the matrix joins these two."));
  };

  const show = () => {
    if (writing) return;
    state = read();
    render();
    renderCell();
    const opened = state.open && byId("finding-" + state.open);
    const place = opened || (state.cell && byId("cell")) || byId(state.view);
    if (place && location.hash.includes("?")) place.scrollIntoView();
  };

  const listen = () => {
    const form = byId("filters");
    if (!form) return;
    form.addEventListener("input", (event) => change({ [event.target.name]: event.target.value.trim(), page: 1, open: "" }));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      if (document.activeElement) document.activeElement.blur();
      change({ ...Object.fromEntries(FIELDS.map((name) => [name, ""])), sort: "", page: 1, open: "" });
    });
    document.querySelectorAll("#list thead th").forEach((head) => head.querySelector("button").addEventListener("click", () => {
      const key = head.dataset.key;
      const next = { "": key + "-up", [key + "-up"]: key + "-down", [key + "-down"]: "" };
      change({ sort: next[state.sort] === undefined ? key + "-up" : next[state.sort], page: 1 });
    }));
  };

  // On paper everything that is chosen is open.
  addEventListener("beforeprint", () => render(true));
  addEventListener("afterprint", () => render());
  addEventListener("hashchange", show);

  // Where the page is served, the next window takes the place of this one; filters and the place in the page stay.
  const follow = () => {
    const status = byId("live");
    status.hidden = false;
    const events = new EventSource("/events");
    events.addEventListener("error", () => { status.textContent = "The audit does not answer; what is shown is what it told last."; });
    events.addEventListener("now", (event) => {
      const now = JSON.parse(event.data);
      const away = now.away.length ? "; not read: " + now.away.join(", ") : "";
      status.textContent = "Live: " + now.rate + " frames a second, " + now.lost + " of them lost; in the last window "
        + (100 * now.loss).toFixed(2) + " % were lost" + away + ".";
    });
    events.addEventListener("window", () => {
      const request = new XMLHttpRequest();
      // Parsed as a document that runs nothing.
      request.responseType = "document";
      request.open("GET", "/");
      request.addEventListener("load", () => { if (request.status === 200 && request.response) replace(request.response); });
      request.send();
    });
  };

  const replace = (next) => {
    const incoming = next.getElementById("data");
    if (!incoming) return;
    data = JSON.parse(incoming.textContent);
    const place = [scrollX, scrollY];
    const opened = new Map([...document.querySelectorAll("details")].map((d) => [d.querySelector("summary").firstChild.textContent, d.open]));
    const focus = document.activeElement && (document.activeElement.name || document.activeElement.getAttribute("href"));
    document.title = next.title;
    document.querySelector("h1").replaceWith(document.importNode(next.querySelector("h1"), true));
    // The findings keep their form, in which somebody may be typing; the script fills the rest anew.
    next.querySelectorAll("main > section").forEach((section) => {
      const mine = byId(section.id);
      if (mine && section.id !== "findings") mine.replaceWith(document.importNode(section, true));
    });
    document.querySelectorAll("details").forEach((d) => {
      const was = opened.get(d.querySelector("summary").firstChild.textContent);
      if (was !== undefined) d.open = was;
    });
    if (byId("filters")) fillFilters();
    render();
    renderCell();
    if (focus && document.activeElement === document.body) {
      const again = [...document.querySelectorAll("main a, main input, main select")].find((e) => (e.name || e.getAttribute("href")) === focus);
      if (again) again.focus({ preventScroll: true });
    }
    scrollTo({ left: place[0], top: place[1], behavior: "instant" });
  };

  if (byId("filters")) fillFilters();
  listen();
  show();
  if (document.body.dataset.window) follow();
})();
