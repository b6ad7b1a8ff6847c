// Tests, in a browser, pages that audits wrote: `node page.mjs DEMO HOSTILE LARGE CODES EMPTY
// FOLDED SCREENSHOTS FARM25 FARM250 FARM2500`. SCREENSHOTS is a folder. The other arguments are
// report.html files. Prints problems and exits with 1 if there are any.
import assert from "node:assert/strict";
import { readFileSync, mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [demo, hostile, large, codes, empty, folded, screenshots, ...farms] = process.argv.slice(2);
const sizes = [25, 250, 2500];
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(screenshots, { recursive: true });

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  // As root, Chromium starts only without its sandbox. Only files of these tests are opened.
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

// Opens a page. Console messages, errors, dialogs, and requests other than the one for the page
// itself count as problems.
const open = async (file, hash = "") => {
  const page = await browser.newPage();
  await page.setViewport({ width: 1400, height: 1000 });
  // A click would miss an element that is still scrolling, so smooth scrolling is turned off.
  await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
  page.problems = [];
  const address = pathToFileURL(file).href;
  page.on("console", (message) => page.problems.push("console: " + message.text()));
  page.on("pageerror", (error) => page.problems.push("error: " + error.message));
  page.on("request", (request) => { if (!request.url().startsWith(address)) page.problems.push("request: " + request.url()); });
  page.on("dialog", (dialog) => { page.problems.push("dialog: " + dialog.message()); dialog.dismiss(); });
  await page.goto(address + hash);
  return page;
};
const close = async (page) => {
  assert.deepEqual(page.problems, []);
  await page.close();
};
const text = (page, selector) => page.$eval(selector, (element) => element.innerText);
const count = (page, selector) => page.$$eval(selector, (list) => list.length);
const hash = (page) => page.evaluate(() => location.hash);

const settle = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
const schemeOf = (page, scheme) => page.emulateMediaFeatures([
  { name: "prefers-reduced-motion", value: "reduce" },
  { name: "prefers-color-scheme", value: scheme },
]);
// Returns the serious and critical accessibility violations.
const violations = async (page) => {
  await page.evaluate(axe);
  const { violations: all } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  // Axe itself attempts things that the policy of the page forbids. These do not count as problems.
  page.problems = page.problems.filter((problem) => !problem.includes("Trusted"));
  const serious = all.filter((violation) => ["serious", "critical"].includes(violation.impact));
  return serious.map((v) => v.id + ": " + v.nodes.map((node) => node.html + " " + node.failureSummary).slice(0, 3).join(" | "));
};
// Prints a page to a PDF file and returns the number of sheets.
const sheets = async (page, path) => {
  const paper = await page.pdf({ path, format: "A4", printBackground: true });
  return (Buffer.from(paper).toString("latin1").match(/\/Type\s*\/Page[^s]/g) || []).length;
};
// Opens all parts that can be folded, so that checks find the elements in them.
const unfold = (page) => page.evaluate(() => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
// Returns up to five words or dates in table cells that are divided between lines. A word may be
// divided at a hyphen, a dot or a slash, and a date may not be divided. Cells of the map, digests
// and display filters are left out.
const brokenWords = (page) => page.evaluate(() => {
  const broken = [];
  const range = document.createRange();
  for (const cell of document.querySelectorAll("td, th")) {
    if (!cell.checkVisibility() || cell.closest(".map")) continue;
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      // Digests and display filters may be divided anywhere.
      if (node.parentElement.closest(".hash, .filter")) continue;
      for (const match of node.data.matchAll(/\d{4}-\d\d-\d\d|[^\s\-./]+/g)) {
        range.setStart(node, match.index);
        range.setEnd(node, match.index + match[0].length);
        const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (lines.size > 1) broken.push(match[0] + " in " + cell.textContent.slice(0, 80));
      }
    }
  }
  return broken.slice(0, 5);
});
// Returns up to five elements that are narrower than their content and hide a part of it, shorten
// it with an ellipsis, or scroll it without a sign that there is more.
const cutOff = (page) => page.evaluate(() => {
  const wrong = [];
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const isWider = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
    if (!isWider || !element.getClientRects().length || style.position === "absolute" || element.matches("select, option, input")) continue;
    const what = element.tagName + "." + element.className + " " + element.textContent.slice(0, 60);
    if (["hidden", "clip"].includes(style.overflowX)) wrong.push("hidden: " + what);
    if (["auto", "scroll"].includes(style.overflowX)) {
      const sign = getComputedStyle(element, "::before").content;
      if (!/scroll sideways/.test(sign)) wrong.push("without a sign: " + what);
    }
    if (style.textOverflow === "ellipsis") wrong.push("shortened: " + what);
  }
  return wrong.slice(0, 5);
});

const tests = {
  async "the verdict is what is seen first"() {
    const page = await open(demo);
    assert.match(await text(page, "h1"), /^3 findings \(3 high\) for Lab farm/);
    assert.equal(await count(page, "#list .row"), 3);
    assert.match(await text(page, ".severity.high"), /3 high/);
    assert.equal(await count(page, ".worst a"), 3);
    const digests = await page.$$eval(".read .hash", (cells) => cells.map((cell) => cell.textContent));
    assert.ok(digests.filter((digest) => /^[0-9a-f]{64}$/.test(digest)).length >= 3, digests.join());
    await close(page);
  },

  async "filters narrow the findings, stand in the address, and come back from it"() {
    const page = await open(demo);
    await page.select("select[name=verdict]", "missing");
    assert.equal(await count(page, "#list .row"), 2);
    await page.type("input[name=port]", "1433");
    assert.equal(await count(page, "#list .row"), 1);
    assert.equal(await text(page, "#count"), "1 of 3 findings");
    const address = await hash(page);
    await close(page);
    const again = await open(demo, address);
    assert.equal(await count(again, "#list .row"), 1);
    assert.equal(await again.$eval("input[name=port]", (input) => input.value), "1433");
    await again.click("#reset");
    assert.equal(await count(again, "#list .row"), 3);
    for (const [field, value, rows] of [["host", "rdsh2", 1], ["text", "nothing says this", 0], ["host", "BROKER1", 2]]) {
      await again.click("#reset");
      await again.type("input[name=" + field + "]", value);
      assert.equal(await count(again, "#list .row"), rows, field + " " + value);
    }
    await again.click("#reset");
    await again.select("select[name=to]", "broker");
    assert.equal(await count(again, "#list .row"), 2);
    await close(again);
  },

  async "columns sort, and say so"() {
    const page = await open(demo);
    const ports = () => page.$$eval("#list .row td:nth-child(5)", (cells) => cells.map((cell) => cell.textContent));
    await page.click("th[data-key=port] button");
    assert.deepEqual(await ports(), ["tcp 1433", "tcp 20002", "tcp 20003"]);
    assert.equal(await page.$eval("th[data-key=port]", (head) => head.ariaSort), "ascending");
    await page.click("th[data-key=port] button");
    assert.deepEqual(await ports(), ["tcp 20003", "tcp 20002", "tcp 1433"]);
    await page.reload();
    assert.deepEqual(await ports(), ["tcp 20003", "tcp 20002", "tcp 1433"]);
    await close(page);
  },

  async "a finding opens to its evidence by key, and its filter is copied"() {
    const page = await open(demo);
    const session = await page.createCDPSession();
    await session.send("Browser.grantPermissions", { permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    await page.focus("#list .row .toggle");
    await page.keyboard.press("Enter");
    const opened = await text(page, ".detail");
    for (const part of ["What to do", "direction evidence: handshake", "Wireshark", "The nearest rows of the matrix", "kb-129097 line"]) {
      assert.ok(opened.includes(part), part + " in " + opened);
    }
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-expanded")), "true");
    const filter = await text(page, ".detail .filter");
    await page.click(".detail .copy");
    await page.waitForFunction(() => document.querySelector(".detail .copy").textContent === "Copied" && document.getElementById("said").textContent === "Filter copied");
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), filter);
    const address = await hash(page);
    await close(page);
    const again = await open(demo, address);
    assert.equal(await text(again, ".detail .filter"), filter);
    await close(again);
  },

  async "a cell of the map opens its rows and its findings"() {
    const page = await open(demo);
    const cell = "#map a[href='#map?cell=rdsh-agent~broker']";
    assert.match(await page.$eval(cell, (link) => link.className + link.textContent), /missing.*✗/);
    await page.focus(cell);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#cell:not([hidden]) tbody tr");
    assert.match(await text(page, "#cell"), /tcp 20003/);
    await page.click("#cell p a");
    await page.waitForFunction(() => document.querySelectorAll("#list .row").length === 1);
    assert.match(await text(page, "#list .row"), /rdsh2/);
    await close(page);
  },

  async "the map says what the rows of the matrix say"() {
    for (const file of [demo, codes, empty]) {
      const page = await open(file);
      const wrong = await page.evaluate(() => {
        const status = (number) => document.getElementById("row-" + number).dataset.status;
        const cells = [...document.querySelectorAll("#map td a")].map((a) => ({ kind: a.classList[1], rows: a.dataset.rows.split(" ").filter(Boolean), label: a.title }));
        const least = { missing: ["missing", "unexpected"], "not-assessable": ["unknown", "missing", "unexpected"], seen: ["seen", "excepted", "unknown", "missing", "unexpected"] };
        const wrong = [];
        for (const cell of cells) {
          const has = (wanted) => cell.rows.some((number) => status(number) === wanted);
          if (cell.kind === "missing" && !has("missing")) wrong.push("missing without a row: " + cell.label);
          if (cell.kind === "unknown" && !has("not-assessable")) wrong.push("unknown without a row: " + cell.label);
          if (cell.kind === "seen" && !cell.rows.length) wrong.push("seen without a row: " + cell.label);
          if (has("not-assessable") && !least["not-assessable"].includes(cell.kind)) wrong.push("not said to be unknown: " + cell.label);
        }
        const shown = new Set(cells.flatMap((cell) => cell.rows));
        for (const number of shown) {
          const kinds = cells.filter((cell) => cell.rows.includes(number)).map((cell) => cell.kind);
          const wanted = least[status(number)];
          if (wanted && !kinds.some((kind) => wanted.includes(kind))) wrong.push("row " + number + " is " + status(number) + " in no cell: " + kinds);
        }
        return wrong;
      });
      assert.deepEqual(wrong, [], file);
      await close(page);
    }
  },

  async "a link to a section keeps the filters, and nothing in an address breaks the page"() {
    const page = await open(demo, "#findings?port=1433");
    assert.equal(await count(page, "#list .row"), 1);
    await page.click("nav a[href='#matrix']");
    await page.waitForFunction(() => location.hash === "#matrix?port=1433");
    assert.equal(await count(page, "#list .row"), 1);
    await page.goBack();
    assert.equal(await hash(page), "#findings?port=1433");
    await close(page);
    for (const broken of ["#findings?sort=__proto__-up", "#findings?open=<script>&page=-3", "#map?cell=a~b", "#x?y", "#matrix?reason=nothing"]) {
      const odd = await open(demo, broken);
      assert.equal(await count(odd, "#list .row"), 3, broken);
      await close(odd);
    }
    const rows = await open(demo, "#matrix?status=missing");
    const shown = await rows.$$eval("#matrix tbody tr", (list) => list.filter((row) => row.getClientRects().length).map((row) => row.dataset.status));
    assert.deepEqual(shown, ["missing", "missing", "missing"]);
    await close(rows);
  },

  async "keys lead from cell to cell, to what a link names, and open findings beside marked text"() {
    const page = await open(demo);
    await page.focus("#map td a[tabindex='0']");
    const before = await page.evaluate(() => document.activeElement.title);
    await page.keyboard.press("ArrowRight");
    const after = await page.evaluate(() => [document.activeElement.title, document.querySelectorAll("#map td a[tabindex='0']").length]);
    assert.ok(after[0] !== before && after[1] === 1, after.join());
    await page.focus(".worst li:nth-child(2) a");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".detail");
    assert.match(await page.evaluate(() => document.activeElement.textContent), /TCP 1433/);
    await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("h1")));
    await page.focus("#list .row:last-child .toggle, #list .row:nth-last-child(1) .toggle");
    await page.keyboard.press("Enter");
    assert.equal(await count(page, ".detail"), 2);
    await page.click("#reset");
    assert.equal(await page.evaluate(() => document.activeElement.id), "reset");
    await close(page);
  },

  async "the matrix is there row by row with its provenance, hosts with their time"() {
    const page = await open(demo);
    assert.ok(await count(page, "#matrix tbody tr") > 200);
    const unsaid = await page.$$eval("#matrix tbody tr", (rows) => rows.filter((row) => !/line \d|sources|inferred/.test(row.lastElementChild.textContent)).map((row) => row.lastElementChild.textContent));
    assert.deepEqual(unsaid, []);
    assert.equal(await count(page, "#coverage tbody tr"), 23);
    assert.ok(await count(page, "#coverage path.sent") >= 18);
    assert.ok(await count(page, "#graph a path.bad") === 3);
    assert.ok(await count(page, "#timeline rect.bar") > 30);
    await close(page);
  },

  async "what hosts and traffic are called is text"() {
    const page = await open(hostile);
    await page.evaluate(() => { for (const d of document.querySelectorAll("details")) d.open = true; });
    const rows = await count(page, "#list .row");
    assert.ok(rows >= 2, String(rows));
    for (let row = 0; row < rows; row += 1) {
      await page.evaluate((number) => document.querySelectorAll("#list .row .toggle")[number].click(), row);
      assert.equal(await count(page, ".detail"), row + 1);
    }
    for (const link of await page.$$("#map td a")) await link.evaluate((a) => a.click());
    const found = await page.evaluate(() => ({
      ran: "ran" in window,
      scripts: document.scripts.length,
      elements: document.querySelectorAll("img, iframe, object, embed, base, link, a[href^='javascript:'], [onerror], [onload], [onclick]").length,
      told: document.body.innerText.includes("<img src=x onerror=window.ran=1>"),
      hidden: /[\u202a-\u202e\u2066-\u2069\u200b]/.test(document.body.innerText),
    }));
    // The markup in the names of the farm, of hosts and of exceptions is shown as text.
    const markup = "<img src=x onerror=window.ran=1>";
    for (const place of ["h1", "#coverage tbody", "#graph", "#findings"]) {
      assert.ok((await page.$eval(place, (element) => element.textContent)).includes(markup), place);
    }
    assert.match(await text(page, "#findings"), /unused-exception/);
    assert.deepEqual(found, { ran: false, scripts: 2, elements: 0, told: true, hidden: false });
    // If markup is injected in another way, the policy of the page does not let it run.
    const refused = await page.evaluate(() => {
      try {
        document.body.innerHTML = "<img src=x onerror=window.ran=1>";
        return "taken";
      } catch (error) {
        return error.name;
      }
    });
    assert.equal(refused, "TypeError");
    // Chromium reports the violation. Nothing else may be reported.
    page.problems = page.problems.filter((problem) => !problem.includes("requires 'TrustedHTML'"));
    await close(page);
  },

  async "a large farm comes in pages"() {
    const page = await open(large);
    assert.equal(await count(page, "#list .row"), 50);
    assert.match(await text(page, "#count"), /the 2000 worst of \d+/);
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.match(await text(page, "#count"), /the first 100 are printed; evidence is printed for the first 10$/);
    assert.equal(await count(page, ".detail"), 10);
    // Each of the others has at least its id, what to do, and the place in the vendor's document.
    const briefs = await page.$$eval("#list .brief", (rows) => rows.map((row) => row.textContent));
    assert.equal(briefs.length, 90);
    briefs.forEach((words) => assert.match(words, /^f-[0-9a-f]{12} · What to do: .+ · Vendor's document: .+/));
    assert.equal(await page.$$eval(".detail code", (ids) => ids.filter((id) => /^f-[0-9a-f]{12}$/.test(id.textContent)).length), 10);
    assert.equal(await count(page, ".fold[open]"), 0);
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    assert.equal(await count(page, "#list .row"), 50);
    await page.click("#pages button:last-of-type");
    await page.waitForFunction(() => location.hash.includes("page=2"));
    assert.match(await text(page, "#pages"), /Page 2 of 40/);
    // The page does not contain all findings, so it cannot say that the report lacks one.
    await page.evaluate(() => { location.hash = "#findings?open=f-0123456789ab"; });
    await page.waitForFunction(() => document.getElementById("count").textContent.includes("f-0123456789ab is not among the 2000 findings of this page"));
    await page.type("input[name=text]", "no finding says this");
    assert.equal(await count(page, "#list .row"), 0);
    await page.screenshot({ path: screenshots + "/large.png" });
    await close(page);
  },

  async "nobody is kept from using it, by light and in the dark"() {
    for (const scheme of ["light", "dark"]) {
      const page = await open(demo, "#findings");
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      assert.equal(ground === "rgb(255, 255, 255)", scheme === "light", ground);
      await page.click("#list .row .toggle");
      await page.evaluate(() => document.querySelector("#map td a.missing").click());
      await page.waitForSelector("#cell:not([hidden])");
      assert.deepEqual(await violations(page), []);
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: screenshots + "/" + scheme + ".png", fullPage: true });
      await close(page);
    }
    const page = await open(demo);
    // The screenshot in the README: cp target/page/top.png docs/page.png
    await page.setViewport({ width: 1200, height: 1500 });
    await page.screenshot({ path: screenshots + "/top.png" });
    await page.setViewport({ width: 420, height: 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, "on a telephone the page is " + wide + " pixels too wide");
    await page.screenshot({ path: screenshots + "/narrow.png", fullPage: true });
    await close(page);
  },

  async "what another finding explains stands under it, and is never lost"() {
    const page = await open(folded);
    const rows = () => page.$$eval("#list .row", (list) => list.map((row) => row.id.replace("finding-", "")));
    const all = await page.evaluate(() => JSON.parse(document.getElementById("data").textContent).findings);
    const explained = all.filter((f) => f.explained_by);
    assert.ok(explained.length >= 11, "twelve attempts");
    const first = await rows();
    assert.equal(first.length, all.length - explained.length);
    assert.match(await page.$eval("#count", (p) => p.textContent), new RegExp(explained.length + " of them listed under the findings that explain them"));
    const cause = explained[0].explained_by;
    await page.click("#finding-" + cause + " .toggle");
    const opened = await rows();
    assert.deepEqual(opened.slice(opened.indexOf(cause) + 1).slice(0, explained.length).sort(), explained.filter((f) => f.explained_by === cause).map((f) => f.id).sort());
    // With a filter and in print, all findings are shown separately. A link in the old form, which
    // has the id without `f-`, still leads to its finding.
    await close(page);
    const filtered = await open(folded, "#findings?code=unknown-host");
    assert.ok((await filtered.$$eval("#list .row", (list) => list.length)) >= 11);
    await close(filtered);
    const linked = await open(folded, "#findings?open=" + explained[3].id.replace("f-", ""));
    assert.ok(await linked.$("#finding-" + explained[3].id));
    await linked.evaluate(() => {
      addEventListener("beforeprint", () => { window.printed = document.querySelectorAll("#list .row").length; });
    });
    await linked.pdf({ format: "A4" });
    assert.equal(await linked.evaluate(() => window.printed), all.length);
    await close(linked);
  },

  async "overview and findings come first, and the matrix shows rows that matter"() {
    const page = await open(demo);
    const sections = await page.$$eval("main > section", (list) => list.filter((e) => e.getClientRects().length).map((e) => e.id));
    assert.deepEqual(sections, ["overview", "findings", "map", "matrix", "graph", "timeline", "coverage", "conversations"]);
    const links = await page.$$eval("header nav a", (list) => list.map((a) => a.getAttribute("href").slice(1)));
    assert.deepEqual(links, sections);
    const shown = () => page.$$eval("#matrix tbody tr", (list) => list.filter((row) => row.checkVisibility()).map((row) => row.dataset.status));
    assert.deepEqual([...new Set(await shown())].sort(), ["missing", "not-assessable", "seen"]);
    await page.select("#rows select", "status=role-absent");
    assert.deepEqual([...new Set(await shown())], ["role-absent"]);
    await page.select("#rows select", "");
    assert.deepEqual([...new Set(await shown())].sort(), ["missing", "not-assessable", "seen"]);
    await close(page);
  },

  async "a link of the navigation puts the heading at the top"() {
    for (const [width, motion] of [[1400, "reduce"], [400, "reduce"], [1400, "no-preference"]]) {
      const page = await open(farms[0]);
      await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: motion }]);
      await page.setViewport({ width, height: 900 });
      for (const link of await page.$$("header nav a")) {
        await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));
        const id = await link.evaluate((a) => { a.click(); return a.getAttribute("href").slice(1); });
        const isThere = (name) => { const { top } = document.querySelector("#" + name + " h2").getBoundingClientRect(); return top >= 0 && top <= 40; };
        await page.waitForFunction(isThere, { timeout: 5000 }, id).catch(() => assert.fail(id + " at " + width + " with " + motion));
      }
      await close(page);
    }
  },

  async "a finding leads to its frames and to the vendor's document and row"() {
    const page = await open(demo);
    await page.click("#list .row .toggle");
    const link = await page.$eval(".detail a.evidence", (a) => [a.getAttribute("href"), a.textContent, a.href]);
    assert.match(link[0], /^\.\/\.\.\/evidence%20of%20the%20demo\/f-[0-9a-f]{12}\.pcapng$/);
    assert.equal(readFileSync(new URL(link[2])).readUInt32BE(0), 0x0a0d0d0a, "a pcapng file");
    assert.match(await text(page, ".detail .sources"), /kb-129097 line \d+.*, table [a-z-]+: row ras19\./);
    await page.click(".detail .sources a");
    await page.waitForSelector("#matrix tr.selected");
    const [rule, isVisible] = await page.$eval("#matrix tr.selected", (row) => [row.dataset.rule, row.getBoundingClientRect().top < innerHeight]);
    assert.ok(isVisible && (await hash(page)).includes(rule), rule);
    await close(page);
    // A page that does not know where the evidence is has no link.
    const other = await open(codes);
    await other.click("#list .row .toggle");
    assert.equal(await count(other, ".detail a.evidence"), 0);
    await close(other);
  },

  async "critical and high differ by shape and word, not only by colour"() {
    const page = await open(codes);
    const marks = await page.evaluate(() => ["critical", "high", "medium", "low"].map((name) => {
      const element = document.querySelector("#list .sev." + name);
      return [getComputedStyle(element, "::before").content, element.textContent, getComputedStyle(element).backgroundColor];
    }));
    assert.equal(new Set(marks.map((mark) => mark[0])).size, 4, JSON.stringify(marks));
    assert.deepEqual(marks.map((mark) => mark[1]), ["critical", "high", "medium", "low"]);
    assert.notEqual(marks[0][2], marks[1][2]);
    await close(page);
  },

  async "farms of every size can be read, by light and in the dark, on a desk and on a telephone"() {
    for (const [number, file] of [...farms, codes].entries()) {
      const name = number < sizes.length ? String(sizes[number]) : "codes";
      for (const [width, scheme] of [[1400, "light"], [1400, "dark"], [400, "light"], [400, "dark"]]) {
        const page = await open(file);
        await page.setViewport({ width, height: 1000 });
        await schemeOf(page, scheme);
        await settle(page);
        const where = name + " " + width + " " + scheme;
        await page.screenshot({ path: screenshots + "/farm-" + where.replaceAll(" ", "-") + ".png" });
        await (await page.$("#graph")).screenshot({ path: screenshots + "/graph-" + where.replaceAll(" ", "-") + ".png" });
        // The page of 250 hosts has the same parts as the one of 2,500, so its accessibility is not
        // checked.
        if (name === "25" || name === "2500") assert.deepEqual(await violations(page), [], where);
        if (scheme === "light") {
          await page.click("#list .row .toggle");
          await unfold(page);
          await settle(page);
          assert.deepEqual(await brokenWords(page), [], where);
          assert.deepEqual(await cutOff(page), [], where);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wide <= 0, where + ": " + wide + " pixels too wide");
        }
        await close(page);
      }
    }
  },

  async "the drawing has a box for each group of roles, which opens to its hosts"() {
    for (const [number, file] of farms.entries()) {
      const page = await open(file);
      const drawn = async () => {
        await settle(page);
        return page.evaluate(() => {
          const boxes = [...document.querySelectorAll("#graph .group")].map((group) => group.getBoundingClientRect());
          const overlaps = boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length;
          const frame = document.querySelector("svg.lines").getBoundingClientRect();
          // Lines begin and end beside a box.
          const loose = [...document.querySelectorAll("svg.lines path.bad")].filter((path) => [0, path.getTotalLength()].some((length) => {
            const point = path.getPointAtLength(length);
            const [x, y] = [point.x + frame.left, point.y + frame.top];
            return !boxes.some((box) => y > box.top - 2 && y < box.bottom + 2 && Math.min(Math.abs(x - box.left), Math.abs(x - box.right)) < 6);
          })).length;
          return { groups: boxes.length, overlaps, loose, lines: document.querySelectorAll("svg.lines path.bad").length };
        });
      };
      const first = await drawn();
      assert.ok(first.groups <= 25 && first.overlaps === 0 && first.loose === 0 && first.lines >= 4, JSON.stringify(first));
      const group = "#graph .group:has(summary[title='RAS RD Session Host Agent'])";
      const isOpen = await page.$eval(group, (box) => box.open);
      assert.equal(isOpen, number === 0, "only small groups are open at first");
      // In all farms but the smallest, the list of hosts is divided by coverage. The headings of
      // the parts count all hosts.
      const parts = await page.$$eval("#coverage details summary", (list) => list.map((part) => Number(part.textContent.match(/· (\d+) host/)[1])));
      assert.equal(parts.reduce((sum, part) => sum + part, 0), number === 0 ? 0 : sizes[number]);
      if (!isOpen) await page.click(group + " summary");
      const opened = await drawn();
      assert.ok(opened.overlaps === 0 && opened.loose === 0, JSON.stringify(opened));
      const hosts = await page.$$eval(group + " .hosts li", (list) => list.map((host) => host.innerText));
      assert.match(hosts[0], /^rdsh-agent-\d+ \(\d\)/);
      if (number === 2) assert.match(hosts.at(-1), /^and 1\d\d\d more; hosts.csv lists the hosts/);
      await page.click(group + " .hosts a");
      await page.waitForFunction(() => document.activeElement.textContent === "Findings" || location.hash.includes("host="));
      assert.ok((await count(page, "#list .row")) >= 1);
      await close(page);
    }
  },

  async "a farm of 25 hosts is printed on less than 15 sheets, with a cover"() {
    for (const [file, name] of [[farms[0], "farm"], [demo, "demo"], [codes, "codes"]]) {
      const page = await open(file);
      // The layout on paper is measured in the browser, whose window gets the width of the paper
      // after the page has prepared itself for printing.
      const count = await sheets(page, screenshots + "/" + name + ".pdf");
      assert.ok(count > 2 && count < 15, name + " has " + count + " sheets");
      await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
      await page.emulateMediaType("print");
      await page.setViewport({ width: 695, height: 1000 });
      await settle(page);
      const cover = await text(page, "#cover");
      for (const part of [/Capture window\s+\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC to /, /Matrix\s+ras-19( with the overlay windows-domain)? \(Parallels RAS 19\)\s+SHA-256 [0-9a-f]{64}/, /Inventory\s+\w+\.toml\s+SHA-256 [0-9a-f]{64}/,
        /Tool\s+rasaudit \d+\.\d+/, /Input\s+\w+\.pcap, \d+ frames\s+SHA-256 [0-9a-f]{64}/, /\d+ findings \(.*for .*compared with/, /Not assessed\s+[^]*\d/, /Exceptions in force/, /Prepared by/, /Approved by/, /Signature/]) {
        assert.match(cover, part, name);
      }
      const paper = await page.evaluate(() => document.body.innerText);
      assert.ok(!/\/(tmp|work|fixtures)\/|fixtures\//.test(paper), "no folders on paper: " + (paper.match(/.{30}(fixtures|tmp).{30}/) || []).join());
      const bare = paper.match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?! UTC).{0,20}/g) || [];
      const headed = await page.$$eval(".time", (cells) => cells.map((cell) => cell.closest("table").tHead.innerText).every((head) => head.includes("(UTC)")));
      const inCells = await page.$$eval(".time", (cells) => cells.filter((cell) => cell.innerText.trim() && cell.checkVisibility()).length);
      assert.ok(headed && bare.length <= inCells, "times without a zone: " + bare.join());
      assert.deepEqual(await brokenWords(page), [], name);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 695, name + " is " + wide + " pixels wide on paper");
      assert.equal(await page.$$eval(".fold tbody tr", (rows) => rows.filter((row) => row.checkVisibility()).length), 0);
      await page.screenshot({ path: screenshots + "/paper-" + name + ".png", fullPage: true });
      await close(page);
    }
    const list = await open(codes);
    await list.emulateMediaType("print");
    assert.match(await text(list, "#cover"), /monitor permits 10\.20\.9\.102 -> broker1 tcp\/9100, one direction: the monitoring of the office; owner ops, approved by security, until 2099-12-31/);
    assert.doesNotMatch(await text(list, "#cover"), /old-monitor/);
    await close(list);
  },

  async "without the script, the findings and the farm can be read"() {
    const page = await browser.newPage();
    await page.setJavaScriptEnabled(false);
    await page.goto(pathToFileURL(codes).href);
    const session = await page.createCDPSession();
    const { root } = await session.send("DOM.getDocument", { depth: -1 });
    const { nodeId } = await session.send("DOM.querySelector", { nodeId: root.nodeId, selector: "#findings noscript li .sev.critical" });
    assert.ok(nodeId > 0);
    const { nodeIds } = await session.send("DOM.querySelectorAll", { nodeId: root.nodeId, selector: "#graph .links li" });
    assert.ok(nodeIds.length > 10, String(nodeIds.length));
    await page.close();
  },

  async "the cover of a filtered print states the filter beside the signatures"() {
    const printed = async (hash) => {
      const page = await open(codes, hash);
      await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
      await page.emulateMediaType("print");
      const cover = await text(page, "#cover");
      await close(page);
      return cover.slice(cover.indexOf("Signatures"));
    };
    assert.match(await printed("#findings?severity=low"), /^Signatures\s+This print shows [1-9]\d* of \d+ findings: severity low\.\s/);
    assert.match(await printed("#matrix?status=missing"), /This print shows only the rows of the matrix with the status missing\./);
    assert.doesNotMatch(await printed(""), /This print/);
  },

  async "a sorted print has the evidence of every finding above info among the first ten"() {
    // Every second finding of this page has severity info.
    const [before, json, after] = readFileSync(codes, "utf8").split(/(?<=id="data">)(.*?)(?=<\/script>)/s);
    const data = JSON.parse(json);
    data.findings.forEach((f, number) => { if (number % 2 === 0) f.severity = "info"; });
    const mixed = screenshots + "/mixed.html";
    writeFileSync(mixed, before + JSON.stringify(data).replaceAll("<", "\\u003c") + after);
    const page = await open(mixed, "#findings?sort=server-up");
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    const rows = await page.$$eval("#list .row", (list) => list.slice(0, 10).map((row) => [row.querySelector(".sev").textContent !== "info", row.nextElementSibling.className === "detail"]));
    const wanted = rows.map(([isAboveInfo]) => isAboveInfo);
    assert.ok(wanted.indexOf(false) < wanted.lastIndexOf(true), String(wanted));
    assert.deepEqual(rows.map(([, isOpen]) => isOpen), wanted);
    assert.ok((await text(page, "#count")).endsWith("; evidence is printed for " + wanted.filter(Boolean).length + " of the first 10"));
    await close(page);
  },

  async "on paper every finding is open"() {
    const page = await open(demo);
    await page.evaluate(() => {
      window.opened = 0;
      addEventListener("beforeprint", () => { window.opened = document.querySelectorAll(".detail").length; });
    });
    const paper = await page.pdf({ path: screenshots + "/print.pdf", format: "A4", printBackground: true });
    assert.equal(Buffer.from(paper.slice(0, 5)).toString(), "%PDF-");
    assert.equal(await page.evaluate(() => window.opened), 3);
    assert.equal(await count(page, ".detail"), 0);
    await page.emulateMediaType("print");
    const shown = await page.$$eval("header, nav, #filters, .skip", (list) => list.filter((e) => e.getClientRects().length).length);
    assert.equal(shown, 0);
    await close(page);
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  const start = Date.now();
  try {
    await test();
    console.log("ok " + name + " (" + ((Date.now() - start) / 1000).toFixed(1) + " s)");
  } catch (error) {
    failed += 1;
    console.log("FAILED " + name + "\n" + (error.stack || error));
  }
}
await browser.close();
process.exit(failed ? 1 : 0);
