// SPDX-License-Identifier: GPL-2.0-or-later
// node accessibility.cjs BROWSER PAGE...: runs axe-core over each page, wide and narrow, light and dark, all parts open.
// Prints a line for each violation, and for a page that is wider than its window; then how many pages were looked at.
"use strict";
const fs = require("fs");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const puppeteer = require("puppeteer-core");

async function look(browser, file, width, scheme) {
  const page = await browser.newPage();
  await page.setBypassCSP(true); // for axe-core alone: the page's own policy forbids scripts
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(`file://${file}`);
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await page.close();
  const where = `${file}, ${width} px, ${scheme}`;
  if (!found.passes.length) console.log(`${where}: axe-core found nothing to look at`);
  if (wide > 0) console.log(`${where}: ${wide} px wider than the window`);
  for (const one of found.violations) console.log(`${where}: ${one.id}: ${one.nodes[0].html}`);
}

(async () => {
  const [executablePath, ...files] = process.argv.slice(2);
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
  let looked = 0;
  for (const file of files)
    for (const width of [1280, 360])
      for (const scheme of ["light", "dark"]) {
        await look(browser, file, width, scheme);
        looked += 1;
      }
  await browser.close();
  console.log(`looked at ${looked}`);
})();
