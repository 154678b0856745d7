// A server at steady load: garbage, a bounded cache, timers; nothing stays. No arguments.
const cache = new Map();
setInterval(() => {
  for (let i = 0; i < 400; i++) {
    const key = Math.floor(Math.random() * 3000);
    const value = { key, text: "v".repeat(200 + Math.floor(Math.random() * 2000)), at: Date.now() };
    cache.set(key, value);
    JSON.parse(JSON.stringify(value));
  }
}, 50);
