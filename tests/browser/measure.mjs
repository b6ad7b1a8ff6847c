// Measures the time until a page can be used: `node measure.mjs report.html`. Called by
// benches/page.sh.
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});
const address = pathToFileURL(process.argv[2]).href;
for (let run = 0; run < 5; run += 1) {
  const page = await browser.newPage();
  await page.goto(address);
  // The script ends before this event, so the table is filled and responds to input.
  const interactive = await page.evaluate(() => performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd);
  const filtered = await page.evaluate(() => {
    const start = performance.now();
    const field = document.querySelector("input[name=text]");
    field.value = "tcp";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.getBoundingClientRect();
    return performance.now() - start;
  });
  console.log("interactive after " + Math.round(interactive) + " ms; a filter shows after " + Math.round(filtered) + " ms");
  await page.close();
}
await browser.close();
