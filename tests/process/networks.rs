//! Networks as they are: proxies that answer for a server, cut, buffer, limit and lose patience;
//! links that are slow. The commands ride through them, and what was cut shows.

mod between;
mod lengths;
mod nginx;
