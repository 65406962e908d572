// Drives a headless Chromium that shows the page of the admin API at URL. It reads commands from standard input, a line
// each, and answers each with one line of JSON:
//
//   wait TEXT          the page shows TEXT
//   other ADDRESS      a page of another origin at ADDRESS opens, frames and fetches the admin API: what it saw
//   keys               the elements that the key Tab reaches
//   axe                the serious findings of axe-core, in light and dark
//   shot FOLDER        screenshots at three widths, in light and dark; whether the page is wider than its window,
//                      or the column of rules too narrow to read
//   violations         what the policy of contents stopped, and errors of scripts
const readline = require("readline");
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");

const LIMIT = 60000;
const WIDTHS = [390, 1024, 1920];
const url = process.argv[2];

async function main() {
  const browser = await puppeteer.launch({
    executablePath: process.argv[3],
    args: ["--no-sandbox", "--disable-gpu", "--no-proxy-server"],
  });
  const page = await browser.newPage();
  const violations = [];
  page.on("pageerror", error => violations.push(String(error)));
  page.on("console", message => {
    if (/Content Security Policy|Refused/.test(message.text())) violations.push(message.text());
  });
  await page.exposeFunction("noteViolation", text => violations.push(text));
  await page.evaluateOnNewDocument(() =>
    addEventListener("securitypolicyviolation", event => noteViolation(event.violatedDirective)));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  const scheme = value => page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
  const commands = {
    async wait(text) {
      await page.waitForFunction(text => document.body.innerText.includes(text), { timeout: LIMIT }, text);
      return true;
    },
    async other(address) {
      const other = await browser.newPage();
      await other.goto(address);
      const seen = await other.evaluate(async url => {
        const read = await fetch(url + "health?verbose").then(answer => answer.text(), () => "stopped");
        const frame = document.createElement("iframe");
        frame.src = url;
        const loaded = new Promise(resolve => { frame.onload = frame.onerror = resolve; });
        document.body.append(frame);
        await loaded;
        const source = new EventSource(url + "events");
        const events = await new Promise(resolve => {
          source.onmessage = () => resolve("read");
          source.onerror = () => resolve("stopped");
        });
        source.close();
        return { read, events };
      }, url);
      const frame = other.frames()[1];
      seen.framed = await frame.evaluate(() => document.body.innerText).catch(() => "");
      // The same address by a link from there.
      const [answer] = await Promise.all([
        other.waitForNavigation(),
        other.evaluate(url => { location.href = url; }, url),
      ]);
      seen.linked = answer.status();
      await other.close();
      return seen;
    },
    async keys() {
      const reached = [];
      for (let count = 0; count < 5; count++) {
        await page.keyboard.press("Tab");
        reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
      }
      return reached;
    },
    async axe() {
      const found = [];
      await page.evaluate(axe.source);
      for (const colours of ["light", "dark"]) {
        await scheme(colours);
        const { violations } = await page.evaluate(() => axe.run());
        for (const { id, impact, nodes } of violations) {
          if (impact === "serious" || impact === "critical") found.push(`${colours} ${id}: ${nodes[0].html}`);
        }
      }
      return found;
    },
    async shot(folder) {
      const wider = [];
      await page.evaluate(() => document.activeElement.blur());
      for (const colours of ["light", "dark"]) {
        await scheme(colours);
        for (const width of WIDTHS) {
          await page.setViewport({ width, height: 900 });
          await page.screenshot({ path: `${folder}/${colours}-${width}.png` });
          const content = await page.evaluate(() => document.documentElement.scrollWidth);
          if (content > width) wider.push(`${colours} ${width}: ${content}`);
          const rule = await page.evaluate(() => document.querySelector("#blocked td:last-child").offsetWidth);
          if (rule < 160) wider.push(`${colours} ${width}: the column of rules has ${rule}`);
        }
      }
      return wider;
    },
    async violations() {
      return violations;
    },
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(" ");
    console.log(JSON.stringify(await commands[command](words.join(" "))));
  }
  await browser.close();
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
