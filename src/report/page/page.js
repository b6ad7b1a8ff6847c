// Renders the findings table and the details of the selected map cell. On a page that a live audit
// serves, it also loads the report of the next window. All text is set through textContent, because
// the page's Content-Security-Policy forbids innerHTML.
(() => {
  const PAGE = 50;
  // The maximum number of findings on paper, and of those that are printed with their evidence.
  const PRINTED = 100;
  const PRINTED_OPEN = 10;
  const FIELDS = ["text", "severity", "verdict", "code", "role", "from", "to", "host", "port"];
  const SEVERITIES = ["info", "low", "medium", "high", "critical"];
  const byId = (id) => document.getElementById(id);
  let data = JSON.parse(byId("data").textContent);
  // The current view: filters, sort order, page, open findings, selected map cell and matrix
  // filter. The URL contains all of it.
  let state = {};

  // Escapes control characters and characters that are invisible or change the text direction, as
  // in all reports.
  const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
  const clean = (text) => String(text).replace(CONTROL, (c) => "\\u{" + c.charCodeAt(0).toString(16) + "}");

  // Sets the text of an element. A line does not end inside a date.
  const DATE = /(\d{4}-\d\d-\d\d)/;
  const fillWith = (element, text) => {
    const parts = text.split(DATE);
    if (parts.length === 1 || element.tagName === "OPTION") {
      element.textContent = text;
      return;
    }
    parts.forEach((part, number) => {
      if (number % 2 === 0) return element.append(part);
      const date = document.createElement("span");
      date.className = "date";
      date.textContent = part;
      element.append(date);
    });
  };

  const make = (name, text, attributes) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) fillWith(element, clean(text));
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  };

  const read = () => {
    const [view, query] = location.hash.slice(1).split("?");
    const given = new URLSearchParams(query || "");
    const next = { view };
    for (const name of [...FIELDS, "sort", "cell", "status", "reason", "rule"]) next[name] = given.get(name) || "";
    // Ids of earlier versions had no prefix.
    const withPrefix = (id) => (/^[0-9a-f]{12}$/.test(id) ? "f-" + id : id);
    next.open = (given.get("open") || "").split(",").filter(Boolean).map(withPrefix);
    next.page = Math.max(1, parseInt(given.get("page"), 10) || 1);
    return next;
  };

  const address = (wanted) => {
    const query = new URLSearchParams();
    for (const name of [...FIELDS, "sort", "cell", "status", "reason", "rule"]) if (wanted[name]) query.set(name, wanted[name]);
    if (wanted.page > 1) query.set("page", wanted.page);
    if (wanted.open.length) query.set("open", wanted.open.join(","));
    const text = query.toString().replaceAll("%2C", ",");
    return "#" + (wanted.view || "findings") + (text ? "?" + text : "");
  };

  // Changes the view without scrolling.
  const change = (changes) => {
    state = { ...state, view: "findings", ...changes };
    history.replaceState(null, "", address(state));
    render();
  };

  const has = (text, part) => String(text).toLowerCase().includes(part.toLowerCase());
  const inPorts = (text, wanted) => String(text).split(";").some((ports) => {
    const [low, high] = ports.split("-");
    return ports === wanted || ports === "*" || (high && Number(low) <= Number(wanted) && Number(wanted) <= Number(high));
  });

  const matchesFilters = (f) => {
    const roles = [...f.client_roles, ...f.server_roles];
    const roleFits = (list, wanted) => !wanted || (wanted === "none" ? list.length === 0 : list.includes(wanted));
    return (!state.severity || f.severity === state.severity)
      && (!state.verdict || f.verdict === state.verdict)
      && (!state.code || f.code === state.code)
      && (!state.role || roles.includes(state.role))
      && roleFits(f.client_roles, state.from) && roleFits(f.server_roles, state.to)
      && (!state.host || [[f.client, f.client_name, f.server, f.server_name], f.clients, f.servers].some((names) => names.some((name) => has(name, state.host))))
      && (!state.port || inPorts(f.port, state.port))
      && (!state.text || [f.message, f.action, f.id, f.rule, f.group, ...f.trace].some((text) => has(text, state.text)));
  };

  const keys = new Map([
    ["severity", (f) => -SEVERITIES.indexOf(f.severity)],
    ["verdict", (f) => f.verdict + "/" + f.code],
    ["client", (f) => f.client_name || f.client || f.client_roles.join()],
    ["server", (f) => f.server_name || f.server || f.server_roles.join()],
    ["port", (f) => (parseInt(f.port, 10) || 0) + (f.transport === "udp" ? 0.5 : 0)],
    ["count", (f) => f.count],
    ["message", (f) => f.message],
  ]);

  // Explained findings are listed below the finding that explains them, if it or one of them is
  // open. With a filter or a sort order, all findings are listed separately.
  const groupExplained = (list) => {
    const byCause = new Map();
    list.filter((f) => f.explained_by).forEach((f) => byCause.set(f.explained_by, [...(byCause.get(f.explained_by) || []), f]));
    const ids = new Set(list.map((f) => f.id));
    const causes = list.filter((f) => !ids.has(f.explained_by));
    return causes.flatMap((f) => {
      const explained = byCause.get(f.id) || [];
      const wanted = state.open.includes(f.id) || explained.some((other) => state.open.includes(other.id));
      return wanted ? [f, ...explained] : [f];
    });
  };

  const explains = (f) => data.findings.filter((other) => other.explained_by === f.id).length;

  const selectedFindings = (all) => {
    const list = data.findings.filter(matchesFilters);
    if (!all && !state.sort && !filters()) return groupExplained(list);
    const [key, order] = state.sort.split("-");
    const value = keys.get(key);
    if (value) {
      const sign = order === "down" ? -1 : 1;
      const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
      // Sorting is stable, so equal findings stay in the order of severity.
      list.sort((a, b) => sign * compare(value(a), value(b)));
    }
    return list;
  };

  // Returns a name that does not wrap, unless it is long.
  const unbroken = (text) => make("span", text, text.length > 40 ? {} : { class: "word" });

  const role = (slug) => data.roles.find((role) => role[0] === slug) || [slug, slug, slug];
  const roleName = (slug) => role(slug)[1];
  const party = (address, name, roles, label) => {
    const cell = make("td", null, { "data-label": label });
    const parts = name && address && address !== "*" ? [name, "(" + address + ")"] : [name || address || "any"];
    const whole = make("bdi");
    parts.forEach((part, number) => whole.append(number ? " " : "", unbroken(part)));
    cell.append(whole);
    if (roles.length) cell.append(" ", make("br"), make("span", roles.map((slug) => role(slug)[2]).join(", "), { class: "faint", title: clean(roles.map(roleName).join(", ")) }));
    return cell;
  };

  const copy = async (text, button) => {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // A page that was loaded from a file or an insecure origin may not be allowed to write to the
      // clipboard.
      const field = make("textarea");
      field.value = text;
      document.body.append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Copy failed";
    announce(done ? "Filter copied" : "Copying failed");
    setTimeout(() => { button.textContent = "Copy filter"; }, 2000);
  };

  // Announces a message to users of screen readers.
  const announce = (text) => { byId("said").textContent = text; };

  const table = (label, heads, rows, kind) => {
    const scroll = make("div", null, { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
    const whole = make("table", null, { class: kind || "" });
    const head = make("tr");
    heads.forEach((text) => head.append(make("th", text, { scope: "col" })));
    whole.append(make("thead"), make("tbody"));
    whole.tHead.append(head);
    rows.forEach((row) => whole.tBodies[0].append(row));
    scroll.append(whole);
    return scroll;
  };

  // Returns a table with copies of the matrix rows that have these indexes.
  const copyMatrixRows = (label, numbers) => {
    const rows = numbers.map((number) => byId("row-" + number)).filter(Boolean).map((row) => {
      const copied = row.cloneNode(true);
      copied.removeAttribute("id");
      copied.hidden = false;
      return copied;
    });
    const heads = document.querySelector("#matrix table.rows thead tr");
    return table(label, heads ? [...heads.children].map((cell) => cell.textContent) : [], rows, "rows");
  };

  // Returns the lines of the vendor's document that a finding is about, with links to the rows of the matrix.
  const sources = (f) => {
    const list = make("ul", null, { class: "sources" });
    f.about.map((number) => byId("row-" + number)).filter(Boolean).forEach((row) => {
      const item = make("li", row.querySelector(".source span").textContent + ": ");
      const rule = row.dataset.rule;
      item.append(make("a", "row " + rule, { href: "#matrix?" + new URLSearchParams({ rule }) }));
      list.append(item);
    });
    if (f.rule.startsWith("exception:")) {
      const item = make("li");
      item.append(make("a", "exception " + f.rule.slice("exception:".length), { href: "#exceptions" }));
      list.append(item);
    }
    if (!list.children.length) {
      // A contradiction with the inventory is about roles and addresses. Its evidence names rows if any matter.
      const none = f.verdict === "inventory"
        ? "This finding compares the inventory with the traffic. It is not based on a single row of the matrix."
        : "No row of the matrix is about this traffic.";
      list.append(make("li", none));
    }
    return list;
  };

  // Returns how a finding changed since the baseline.
  const sinceBaseline = (f) => "Since the baseline: " + f.baseline_state + (f.baseline_reason ? ", " + f.baseline_reason : "") + ".";

  const detail = (f) => {
    const row = make("tr", null, { class: "detail" });
    const cell = make("td", null, { colspan: "7" });
    row.append(cell);
    cell.append(make("p", f.message, { class: "screen" }));
    if (f.action) cell.append(make("h3", "What to do"), make("p", f.action));
    cell.append(make("h3", "Evidence"));
    const trace = make("ol");
    f.trace.forEach((line) => trace.append(make("li", line)));
    cell.append(trace);
    if (f.has_file) {
      const name = f.id + ".pcapng";
      const line = make("p", "Frames: ");
      line.append(make("a", name, { href: data.evidence + name, class: "evidence" }), " in the folder of --evidence");
      cell.append(line);
    }
    const certainty = make("p", f.certain ? "This finding is certain." : "This finding is not certain because of: " + f.doubt.join(", ") + ".");
    if (f.first_seen) certainty.append(" ", make("span", "Seen from " + f.first_seen + " to " + f.last_seen + ".", { class: "faint" }));
    cell.append(certainty);
    if (f.sensors.length) cell.append(make("p", "Sensors: " + f.sensors.join(", ")));
    if (f.baseline_state) cell.append(make("p", sinceBaseline(f)));
    cell.append(make("h3", "Vendor's document"), sources(f));
    if (f.display_filter) {
      cell.append(make("h3", "Wireshark", { class: "screen" }));
      const line = make("p", null, { class: "screen" });
      const button = make("button", "Copy filter", { type: "button", class: "copy" });
      button.addEventListener("click", () => copy(f.display_filter, button));
      line.append(make("span", f.display_filter, { class: "filter" }), button);
      cell.append(line);
    }
    if (f.talkers.length) {
      const heading = f.count > f.talkers.length ? "The largest conversations" : "Conversations";
      const talkers = make("div", null, { class: "screen" });
      talkers.append(make("h3", heading), table(heading, ["Client", "Server", "Port", "State", "Packets", "Bytes", "First seen (UTC)", "Last seen (UTC)"], f.talkers.map((t) => {
        const line = make("tr");
        [t.client, t.server, t.port, t.state].forEach((text) => line.append(make("td", text)));
        [t.packets, t.bytes].forEach((text) => line.append(make("td", text, { class: "number" })));
        [t.first, t.last].forEach((text) => line.append(make("td", text, { class: "time" })));
        return line;
      })));
      cell.append(talkers);
    }
    if (f.near.length) {
      const near = make("div", null, { class: "screen" });
      near.append(make("h3", "The nearest rows of the matrix"), copyMatrixRows("The nearest rows", f.near));
      cell.append(near);
    }
    const last = make("p");
    last.append(make("a", "Link to this finding", { href: "#findings?open=" + f.id, class: "screen" }), " ", make("code", f.id));
    cell.append(last);
    return row;
  };

  // Returns the row that is printed for a finding without its evidence: its id, what to do, and the
  // lines of the vendor's document.
  const brief = (f) => {
    const row = make("tr", null, { class: "brief" });
    const cell = make("td", null, { colspan: "7" });
    const lines = [...sources(f).children].map((item) => item.textContent);
    const parts = [f.action && "What to do: " + f.action, "Vendor's document: " + lines.join("; "), f.has_file && "Frames: " + f.id + ".pcapng", f.baseline_state && sinceBaseline(f)];
    cell.append(make("code", f.id));
    parts.filter(Boolean).forEach((part) => cell.append(" · ", make("span", part)));
    row.append(cell);
    return row;
  };

  const toggle = (id) => {
    const open = state.open.includes(id) ? state.open.filter((other) => other !== id) : [...state.open, id];
    change({ open });
  };

  const line = (f) => {
    const row = make("tr", null, { class: "row", id: "finding-" + f.id });
    const severity = make("td", null, { "data-label": "Severity" });
    severity.append(make("span", f.severity, { class: "sev " + f.severity }));
    row.append(severity);
    const verdict = make("td", null, { "data-label": "Verdict" });
    verdict.append(unbroken(f.verdict + "/"), make("wbr"), unbroken(f.code));
    if (!f.certain) verdict.append(" ", make("span", "not certain", { class: "tag" }));
    const others = explains(f);
    if (others) verdict.append(" ", make("span", "explains " + others + " more", { class: "tag" }));
    if (f.explained_by) verdict.append(" ", make("span", "explained by " + f.explained_by, { class: "tag" }));
    if (f.since === "new") verdict.append(" ", make("span", "new", { class: "tag" }));
    row.append(verdict, party(f.client, f.client_name, f.client_roles, "From"), party(f.server, f.server_name, f.server_roles, "To"));
    row.append(make("td", (f.transport + " " + f.port.replaceAll(";", "; ")).trim(), { "data-label": "Port", class: f.port.length > 12 ? "" : "port" }));
    row.append(make("td", f.count || "", { class: "number", "data-label": "Count" }));
    const what = make("td", null, { "data-label": "Finding" });
    const button = make("button", f.message, { type: "button", class: "toggle", "aria-expanded": String(state.open.includes(f.id)) });
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      toggle(f.id);
      focusOn("finding-" + f.id);
    });
    what.append(button);
    row.append(what);
    // A click that ends a selection of text must not open or close the finding.
    row.addEventListener("click", () => { if (!String(getSelection())) toggle(f.id); });
    return row;
  };

  const focusOn = (id) => {
    const row = byId(id);
    const target = row && (row.querySelector(".toggle") || row);
    if (target) target.focus({ preventScroll: true });
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
    fill(form.elements.from, [...roles((f) => f.client_roles), ["none", "no role"]]);
    fill(form.elements.to, [...roles((f) => f.server_roles), ["none", "no role"]]);
  };

  const plural = (count, noun) => count + " " + noun + (count === 1 ? "" : "s");

  const filters = () => FIELDS.filter((name) => state[name]).map((name) => name + " " + state[name]).join(", ");

  // Describes which of the printed findings have their evidence. With a sort order, findings of
  // severity info, which have none, may come before others.
  const evidenceWords = (shown, evidenced) => {
    const count = evidenced.size;
    const areFirst = shown.slice(0, count).every((f) => evidenced.has(f));
    return "; evidence is printed for " + (areFirst ? "the first " + count : count + " of the first " + Math.min(PRINTED_OPEN, shown.length));
  };

  const countWords = (list, shown, all, evidenced) => {
    const total = data.findings.length;
    const hidden = all || state.sort || filters() ? 0 : data.findings.filter(matchesFilters).length - list.length;
    const info = list.filter((f) => f.severity === "info").length;
    let words = list.length + hidden === total ? plural(total, "finding") : list.length + " of " + plural(total, "finding");
    if (hidden) words += ", " + hidden + " of them listed under the findings that explain them";
    if (info) words += ", " + info + " with severity info";
    if (data.total > total) words += " (the " + total + " worst of " + data.total + "; all of them are in findings.csv)";
    if (all && filters()) words += ", with " + filters();
    if (all && shown.length < list.length) words += "; the first " + shown.length + " are printed";
    if (all && evidenced.size && evidenced.size < shown.length) words += evidenceWords(shown, evidenced);
    state.open.filter((id) => !list.some((f) => f.id === id)).slice(0, 3).forEach((id) => {
      const exists = data.findings.some((f) => f.id === id);
      const absent = data.total > total ? " is not among the " + total + " findings of this page; look for it in findings.csv" : " is not in this report";
      words += "; finding " + id.slice(0, 40) + (exists ? " does not match the filters" : absent);
    });
    return words;
  };

  // States on the cover which findings and rows are printed, because a signature must not cover others.
  const stateSelection = () => {
    const line = byId("printed");
    if (!line) return;
    const printed = Math.min(PRINTED, data.findings.filter(matchesFilters).length);
    const parts = [];
    if (filters()) parts.push(printed + " of " + plural(data.total, "finding") + ": " + filters());
    else if (printed < data.total) parts.push(state.sort ? "the first " + printed + " of " + plural(data.total, "finding") + " in the selected order" : "the " + printed + " worst of " + plural(data.total, "finding"));
    if (state.reason || state.status) parts.push("only the rows of the matrix with the " + (state.reason ? "reason " + state.reason : "status " + state.status));
    line.hidden = parts.length === 0;
    line.textContent = parts.length ? clean("This print shows " + parts.join("; and ") + ".") : "";
  };

  const render = (all) => {
    const form = byId("filters");
    if (!form) return;
    form.hidden = false;
    FIELDS.forEach((name) => {
      const field = form.elements[name];
      if (field === document.activeElement && field.tagName === "INPUT") return;
      // A link may contain a value that does not occur in this report.
      if (state[name] && field.options && ![...field.options].some((option) => option.value === state[name])) {
        field.append(make("option", state[name], { value: state[name] }));
      }
      field.value = state[name];
    });
    const list = selectedFindings(all);
    const pages = Math.max(1, Math.ceil(list.length / PAGE));
    const page = Math.min(state.page, pages);
    const shown = all ? list.slice(0, PRINTED) : list.slice((page - 1) * PAGE, page * PAGE);
    const evidenced = new Set(shown.slice(0, PRINTED_OPEN).filter((f) => f.severity !== "info"));
    const words = countWords(list, shown, all, evidenced);
    if (byId("count").textContent !== words) byId("count").textContent = words;
    const rows = [];
    shown.forEach((f) => {
      rows.push(line(f));
      if (all ? evidenced.has(f) : state.open.includes(f.id)) rows.push(detail(f));
      else if (all) rows.push(brief(f));
    });
    byId("list").tBodies[0].replaceChildren(...rows);
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
        goTo(byId("findings"));
      });
      return button;
    };
    nav.replaceChildren(step("Previous", page - 1), make("span", "Page " + page + " of " + pages), step("Next", page + 1));
  };

  // Shows the rows and the findings of the selected cell of the map.
  const renderCell = () => {
    const place = byId("cell");
    if (!place) return;
    document.querySelectorAll("#map a[aria-current]").forEach((link) => link.removeAttribute("aria-current"));
    const link = [...document.querySelectorAll("#map td a")].find((a) => a.getAttribute("href") === "#map?cell=" + state.cell);
    place.hidden = !state.cell;
    place.replaceChildren();
    if (!state.cell) return;
    if (!link) {
      place.append(make("p", "This report has no cell for " + state.cell.slice(0, 80).replace("~", " and ") + "."));
      return;
    }
    link.setAttribute("aria-current", "true");
    const [from, to] = state.cell.split("~");
    place.append(make("h3", link.getAttribute("aria-label")));
    const count = Number(link.dataset.findings);
    if (count) {
      const query = new URLSearchParams({ from, to });
      const line = make("p");
      line.append(make("a", count === 1 ? "Show its finding" : "Show its " + count + " findings", { href: "#findings?" + query }));
      place.append(line);
    }
    const rows = link.dataset.rows.split(" ").filter(Boolean);
    if (rows.length) place.append(copyMatrixRows("Rows of the cell", rows));
    else place.append(make("p", "No row of the matrix allows traffic from the first of these roles to the second."));
  };

  // Shows the rows of the matrix with the selected status or reason, or all rows.
  let filtered = "";
  const renderMatrix = () => {
    const select = document.querySelector("#rows select");
    if (!select) return;
    byId("rows").hidden = false;
    if (select.options.length === 1) {
      const words = (name) => unique([...document.querySelectorAll("#matrix tr[data-" + name + "]")].map((row) => row.dataset[name]));
      fill(select, [...words("status").map((word) => ["status=" + word, word]), ...words("reason").map((word) => ["reason=" + word, "not-assessable: " + word])]);
    }
    const wanted = state.reason ? ["reason", state.reason] : state.status ? ["status", state.status] : null;
    select.value = wanted ? wanted.join("=") : "";
    document.querySelectorAll("#matrix details").forEach((table) => {
      let any = false;
      table.querySelectorAll("tbody tr").forEach((row) => {
        row.hidden = Boolean(wanted) && row.dataset[wanted[0]] !== wanted[1];
        any = any || !row.hidden;
      });
      table.hidden = !any;
      if (wanted && any && wanted.join("=") !== filtered) table.open = true;
      // Without a filter, the rows that do not matter are folded again.
      if (!wanted && filtered && table.classList.contains("fold")) table.open = false;
    });
    filtered = wanted ? wanted.join("=") : "";
    byId("rows-note").textContent = wanted ? "Only rows with " + wanted.join(" ") + "." : "";
  };

  // Opens the table of the row with the selected name, and returns the row.
  const selectRow = () => {
    document.querySelectorAll("#matrix tr.selected").forEach((row) => row.classList.remove("selected"));
    const row = state.rule && [...document.querySelectorAll("#matrix tr[data-rule]")].find((one) => one.dataset.rule === state.rule);
    if (!row) return null;
    row.classList.add("selected");
    row.closest("details").open = true;
    return row;
  };

  // Marks the parts that can be scrolled sideways. The style sheet shows where more is hidden.
  const markScrollable = () => {
    document.querySelectorAll(".scroll").forEach((part) => {
      const left = part.scrollLeft > 1;
      const right = part.scrollLeft + part.clientWidth < part.scrollWidth - 1;
      if (left || right) part.dataset.more = left && right ? "both" : left ? "left" : "right";
      else delete part.dataset.more;
    });
  };

  const drawLines = () => {
    farmLines.draw(data, clean);
    markScrollable();
  };

  // Scrolls to an element and moves the focus there.
  const goTo = (place) => {
    if (!place) return;
    place.scrollIntoView();
    const target = place.querySelector(".toggle") || place.querySelector("h2") || place;
    if (!target.hasAttribute("tabindex") && target.tagName !== "BUTTON") target.setAttribute("tabindex", "-1");
    target.focus({ preventScroll: true });
  };

  // A link to a section keeps the filters and the open findings in the URL.
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("nav a[href^='#'], a.skip");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const view = link.getAttribute("href").slice(1);
    history.pushState(null, "", address({ ...state, view }));
    state.view = view;
    goTo(byId(view));
  });

  const show = () => {
    state = read();
    // A link to a finding selects the page that contains it.
    const at = selectedFindings().findIndex((f) => f.id === state.open[0]);
    if (at >= 0 && location.hash.includes("open=") && !location.hash.includes("page=")) state.page = 1 + Math.floor(at / PAGE);
    render();
    renderCell();
    renderMatrix();
    const row = selectRow();
    markScrollable();
    if (!location.hash.includes("?")) return;
    if (state.view === "map" && state.cell) {
      // The map stays in view, so that the next cell can be selected.
      byId("cell").scrollIntoView({ block: "nearest" });
    } else {
      goTo(row || byId("finding-" + state.open[0]) || byId(state.view));
    }
  };

  // Arrow keys move between the cells of the map. Only one cell is in the tab order.
  const setMapTabOrder = () => {
    const links = [...document.querySelectorAll("#map td a")];
    links.forEach((link, number) => link.setAttribute("tabindex", number ? "-1" : "0"));
  };
  document.addEventListener("keydown", (event) => {
    const cell = event.target.closest && event.target.closest("#map tbody td");
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (!cell || !Object.hasOwn(steps, event.key) || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const [down, right] = steps[event.key];
    const rows = [...cell.closest("tbody").rows];
    let [row, column] = [rows.indexOf(cell.parentElement) + down, cell.cellIndex + right];
    while (rows[row] && rows[row].cells[column] && column > 0) {
      const link = rows[row].cells[column].querySelector("a");
      if (link) {
        event.preventDefault();
        document.querySelectorAll("#map td a[tabindex='0']").forEach((a) => a.setAttribute("tabindex", "-1"));
        link.setAttribute("tabindex", "0");
        link.focus();
        return;
      }
      [row, column] = [row + down, column + right];
    }
  });

  const listen = () => {
    const form = byId("filters");
    if (!form) return;
    form.addEventListener("input", (event) => change({ [event.target.name]: event.target.value.trim(), page: 1 }));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      byId("reset").focus();
      change({ ...Object.fromEntries(FIELDS.map((name) => [name, ""])), sort: "", page: 1, open: [] });
    });
    document.querySelectorAll("#list thead th").forEach((head) => head.querySelector("button").addEventListener("click", () => {
      const key = head.dataset.key;
      const sort = state.sort === key + "-up" ? key + "-down" : state.sort === key + "-down" ? "" : key + "-up";
      change({ sort, page: 1 });
    }));
    document.addEventListener("input", (event) => {
      if (event.target.closest && event.target.closest("#rows")) {
        const [name, value] = event.target.value.split("=");
        change({ view: "matrix", status: "", reason: "", ...(name ? { [name]: value } : {}) });
        renderMatrix();
      }
    });
  };

  // When the page is printed, the worst matching findings are expanded. Folded parts stay folded. The drawing has the
  // same size on paper as on a wide screen, so that its lines fit.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("#graph .drawing").forEach((drawing) => drawing.classList.add("wide"));
    drawLines();
    stateSelection();
    render(true);
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("#graph .drawing").forEach((drawing) => drawing.classList.remove("wide"));
    drawLines();
    render();
  });
  // Opening a group moves other groups, so the lines are drawn again.
  document.addEventListener("toggle", drawLines, true);
  addEventListener("resize", drawLines);
  document.addEventListener("scroll", markScrollable, { capture: true, passive: true });
  const focusGroup = (event) => farmLines.focus(event.target.closest && event.target.closest("#graph .group"));
  document.addEventListener("pointerover", focusGroup);
  document.addEventListener("focusin", focusGroup);
  addEventListener("hashchange", show);

  // On a served page, replaces the report when a window is closed. Filters and the scroll position
  // are kept.
  const followAudit = () => {
    const SILENCE = 10000;
    const status = byId("live");
    status.hidden = false;
    let lastUpdate = Date.now();
    let shown = Date.now();
    let loading = false;
    const clock = (time) => new Date(time).toISOString().slice(11, 19);
    const showTrouble = (text) => {
      status.textContent = text + " Last update: " + clock(lastUpdate) + " UTC; report loaded: " + clock(shown) + " UTC.";
      status.classList.add("trouble");
    };
    const load = () => {
      if (loading) return;
      loading = true;
      const request = new XMLHttpRequest();
      // The loaded document is only parsed. Its scripts do not run.
      request.responseType = "document";
      request.open("GET", "/");
      request.timeout = 30000;
      request.addEventListener("load", () => {
        if (request.status !== 200 || !request.response) return;
        shown = Date.now();
        replace(request.response);
      });
      request.addEventListener("loadend", () => { loading = false; });
      request.send();
    };
    const events = new EventSource("/events");
    let newest = "";
    events.addEventListener("error", () => {
      showTrouble("The audit does not respond.");
      // A restarted audit counts its windows from 1 again, so the page must treat any window number
      // as new.
      document.body.dataset.window = "?";
    });
    events.addEventListener("now", (event) => {
      const now = JSON.parse(event.data);
      lastUpdate = Date.now();
      status.classList.toggle("trouble", now.away.length > 0);
      const away = now.away.length ? "; interfaces down: " + now.away.join(", ") : "";
      status.textContent = clean("Live at " + clock(lastUpdate) + " UTC: " + now.rate + " frames per second, " + now.lost + " lost per second; loss in the last window: "
        + (100 * now.loss).toFixed(2) + " %" + away + ".");
      // Retries a load that failed.
      if (newest && newest !== document.body.dataset.window) load();
    });
    events.addEventListener("window", (event) => {
      newest = event.data;
      if (newest !== document.body.dataset.window) load();
    });
    setInterval(() => { if (Date.now() - lastUpdate > SILENCE) showTrouble("The audit sends no updates."); }, 2000);
  };

  const replace = (next) => {
    const incoming = next.getElementById("data");
    if (!incoming) return;
    data = JSON.parse(incoming.textContent);
    document.body.dataset.window = next.body.dataset.window;
    const place = [scrollX, scrollY];
    const name = (part) => part.id || part.querySelector("summary").firstChild.textContent;
    const opened = new Map([...document.querySelectorAll("details")].map((part) => [name(part), part.open]));
    const scrolled = new Map([...document.querySelectorAll(".scroll")].map((part) => [part.getAttribute("aria-label"), part.scrollLeft]));
    const active = document.activeElement;
    const row = active && active.closest("tr.row");
    const focus = active && (active.name || active.getAttribute("href") || active.getAttribute("aria-label") || (active.tagName === "SUMMARY" && active.firstChild.textContent));
    document.title = next.title;
    document.querySelector("h1").replaceWith(document.importNode(next.querySelector("h1"), true));
    // The findings section is kept, because the user may be typing in its form. The script updates
    // the rest of it.
    next.querySelectorAll("main > section").forEach((section) => {
      const mine = byId(section.id);
      if (mine && section.id !== "findings") mine.replaceWith(document.importNode(section, true));
    });
    document.querySelectorAll("details").forEach((part) => {
      const was = opened.get(name(part));
      if (was !== undefined) part.open = was;
    });
    if (byId("filters")) fillFilters();
    setMapTabOrder();
    render();
    renderCell();
    renderMatrix();
    selectRow();
    drawLines();
    document.querySelectorAll(".scroll").forEach((part) => { part.scrollLeft = scrolled.get(part.getAttribute("aria-label")) || 0; });
    if (document.activeElement === document.body) {
      if (row) focusOn(row.id);
      const same = (e) => focus && [e.name, e.getAttribute("href"), e.getAttribute("aria-label"), e.tagName === "SUMMARY" && e.firstChild.textContent].includes(focus);
      const again = !row && [...document.querySelectorAll("main a, main input, main select, main summary, main .scroll")].find(same);
      if (again) again.focus({ preventScroll: true });
    }
    scrollTo({ left: place[0], top: place[1], behavior: "instant" });
    announce("A window was closed: " + document.querySelector("h1").textContent);
  };

  if (byId("filters")) fillFilters();
  setMapTabOrder();
  listen();
  drawLines();
  show();
  if (document.body.dataset.window) followAudit();
})();
