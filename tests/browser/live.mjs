// Tests the page of a running live audit: `node live.mjs ADDRESS SCREENSHOT`. Prints "ready" once
// filters are set, and then waits for the next window. Prints problems and exits with 1 if there
// are any.
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const [address, screenshot] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});
let code = 0;
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 1200, height: 700 });
  // With this preference, the page scrolls immediately.
  await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
  const problems = [];
  page.on("console", (message) => problems.push("console: " + message.text()));
  page.on("pageerror", (error) => problems.push("error: " + error.message));
  page.on("request", (request) => { if (!request.url().startsWith(address)) problems.push("request: " + request.url()); });
  await page.goto(address);
  assert.match(await page.$eval("h1", (h) => h.innerText), /^No(thing| findings| frame was audited)/);
  await page.waitForFunction(() => /^Live at [0-9:]+ UTC: \d+ frames per second, \d+ lost/.test(document.getElementById("live").textContent));
  await page.select("select[name=severity]", "high");
  await page.focus("input[name=text]");
  await page.keyboard.type("tcp");
  await page.evaluate(() => scrollTo(0, 700));
  const place = await page.evaluate(() => scrollY);
  console.log("ready");
  await page.waitForFunction(() => /^3 findings/.test(document.querySelector("h1").innerText), { timeout: 30000 });
  const found = await page.evaluate(() => ({
    severity: document.querySelector("select[name=severity]").value,
    text: document.querySelector("input[name=text]").value,
    focus: document.activeElement.name,
    hash: location.hash,
    place: scrollY,
    rows: document.querySelectorAll("#list .row").length,
    cells: document.querySelectorAll("#map a.missing").length > 0,
  }));
  assert.deepEqual(found, { severity: "high", text: "tcp", focus: "text", hash: "#findings?text=tcp&severity=high", place, rows: 1, cells: true });
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: screenshot });
  assert.deepEqual(problems, []);
} catch (error) {
  console.log(error.stack || String(error));
  code = 1;
}
await browser.close();
process.exit(code);
