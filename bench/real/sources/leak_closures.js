// Buffers that closures in a module-wide table keep alive. Arguments: seconds, MiB to lose.
const [seconds, mib] = process.argv.slice(2).map(Number);
const pending = new Map();
let owed = 0, last = Date.now(), next = 0;
setInterval(() => {
  const now = Date.now();
  owed += ((now - last) / 1000) * (mib * 1048576 / seconds);
  last = now;
  while (owed > 0) {
    const body = Buffer.alloc(8000 + Math.floor(Math.random() * 16000), 1);
    pending.set(next++, () => body.length); // the reply that never comes would delete it
    owed -= body.length;
  }
}, 100);
