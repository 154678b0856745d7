// Each request adds a listener to a shared emitter, and none takes it away.
// Arguments: seconds, MiB to lose.
const { EventEmitter } = require("events");
const [seconds, mib] = process.argv.slice(2).map(Number);
const bus = new EventEmitter();
bus.setMaxListeners(0);
let owed = 0, last = Date.now();
setInterval(() => {
  const now = Date.now();
  owed += ((now - last) / 1000) * (mib * 1048576 / seconds);
  last = now;
  while (owed > 0) {
    const request = { id: Math.random(), headers: Array.from({ length: 120 }, () => Math.random()) };
    bus.on("shutdown", () => request.id);
    owed -= 1400;
  }
  let garbage = [];
  for (let i = 0; i < 300; i++) garbage.push({ text: "x".repeat(50) + i, list: [i, i + 1] });
}, 100);
