// Keeps the page's own files on the device, so that it opens without a network. What is in it is
// the log's business: nothing of that passes here.
const CACHE = 'todo-VERSION';
const FILES = ['./', 'app.js', 'style.css', 'icon.svg', 'app.webmanifest'];

addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
  skipWaiting();
});

// The files of an older version go; a page that runs has loaded all of its own.
addEventListener('activate', (event) => {
  const old = (name) => name.startsWith('todo-') && name !== CACHE;
  event.waitUntil(
    caches.keys()
      .then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))))
      .then(() => clients.claim()),
  );
});

const kept = new Set(FILES.map((name) => new URL(name, location.href).pathname));
addEventListener('fetch', (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (origin !== location.origin || !kept.has(pathname)) return;
  event.respondWith(
    caches.match(pathname, { cacheName: CACHE }).then((found) => found ?? Response.error()),
  );
});
