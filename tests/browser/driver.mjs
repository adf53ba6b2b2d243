// A browser on a leash: one command a line on stdin, one answer a line on stdout, both JSON. It ends with stdin.
//
//   {"open": URL, "width": 1280, "height": 900, "scheme": "light"}   a new page
//   {"run": "1 + 1"}                                                 what an expression comes to on the page
//   {"fill": [SELECTOR, TEXT]}  {"choose": [SELECTOR, VALUE]}  {"press": KEY}
//   {"picture": FILE}                                                the visible part, as PNG
//   {"seen": null}                                                   what the page has complained of, and asked for
//
// Playwright drives the browser that is installed (`BROWSER`), and fetches none. Everything that the page asks for is
// noted.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const browser = await chromium.launch({
  executablePath: process.env.BROWSER,
  // Nothing is found but this machine. Root has no sandbox.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});
let page;
let errors = [];
let requests = [];

const commands = {
  async open(url, { width = 1280, height = 900, scheme = "light" }) {
    await page?.context().close();
    [errors, requests] = [[], []];
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce" });
    page = await context.newPage();
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("dialog", (dialog) => errors.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(url);
  },
  run: (expression) => page.evaluate(expression),
  fill: ([selector, text]) => page.fill(selector, text),
  choose: ([selector, value]) => page.selectOption(selector, value),
  press: (key) => page.keyboard.press(key),
  async picture(path) {
    await page.screenshot({ path });
  },
  seen: () => ({ errors, requests }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const [name] = Object.keys(command);
  let answer;
  try {
    answer = { value: (await commands[name](command[name], command)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
