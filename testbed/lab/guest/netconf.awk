#!/bin/awk -f
# Carries out a NoCloud network-config, version 1 or 2: static addresses,
# gateway, routes, MTU, name servers. It knows the block style that generators
# write (two spaces more per level, at most one-line lists), no other YAML.
function clean(s) { gsub(/["' \t]/, "", s); gsub(/\[/, "", s); gsub(/]/, "", s); sub(/,$/, "", s); return s }
function do_(cmd) { print "network: " cmd; system(cmd) }
function bymac(mac,   cmd, dev) {
  cmd = "grep -il '^" mac "$' /sys/class/net/*/address | head -n 1 | cut -d/ -f5"
  cmd | getline dev; close(cmd); return dev
}
function bits(mask,   p, n, i, b) {
  if (mask !~ /\./) return mask
  split(mask, p, "."); n = 0
  for (i = 1; i <= 4; i++) for (b = p[i]; b > 0; b = int(b / 2)) n += b % 2
  return n
}
function each(list, before, after,   a, n, i) { n = split(list, a, " "); for (i = 1; i <= n; i++) do_(before a[i] after) }
function apply(   dev, n, a, i, r) {
  if (!open_) return
  dev = mac != "" ? bymac(mac) : name
  if (dev == "") { print "network: no card for " name " " mac; forget(); return }
  if (setname != "" && setname != dev) { do_("ip link set dev " dev " down; ip link set dev " dev " name " setname); dev = setname }
  if (mtu != "") do_("ip link set dev " dev " mtu " mtu)
  do_("ip link set dev " dev " up")
  each(addrs, "ip addr add ", " dev " dev)
  if (gw != "") do_("ip route add default via " gw " dev " dev)
  n = split(routes, a, " ")
  for (i = 1; i <= n; i++) { split(a[i], r, ">"); do_("ip route add " r[1] " via " r[2] " dev " dev) }
  forget()
}
function forget() { open_ = 0; mac = name = setname = addrs = gw = routes = mtu = "" }
function add(v,   a, n, i, x) {
  n = split(v, a, ",")
  for (i = 1; i <= n; i++) { x = clean(a[i]); if (x == "") continue
    if (block == "dns") dns = dns " " x; else addrs = addrs " " x }
}
function one(k, v,   n, a, i) { # version 1
  if (k == "type") { if (v == "physical") { apply(); open_ = 1; block = "" } else if (v == "nameserver") block = "dns"; return }
  if (k == "name") name = v
  if (k == "mac_address") mac = v
  if (k == "mtu") mtu = v
  if (k == "gateway") gw = v
  if (k == "address" || k == "") add(v)
  if (k == "netmask") {
    n = split(addrs, a, " "); if (a[n] !~ /\//) a[n] = a[n] "/" bits(v)
    addrs = ""; for (i = 1; i <= n; i++) addrs = addrs " " a[i]
  }
}
function two(k, v) { # version 2
  if (k == "ethernets") { top = ind; level = -1; return }
  if (k != "" && v == "" && ind > top && (level < 0 || ind == level)) { apply(); open_ = 1; name = k; level = ind; block = ""; return }
  if (k != "" && v == "" && k != "addresses" && k != "search") { block = k == "nameservers" ? "dns" : k; return }
  if (k == "macaddress") mac = v
  if (k == "set-name") setname = v
  if (k == "mtu") mtu = v
  if (k == "gateway4" || k == "gateway6") gw = v
  if (k == "to") to = (v == "0.0.0.0/0" || v == "::/0") ? "default" : v
  if (k == "via") routes = routes " " to ">" v
  if (k == "addresses") { if (ind == level + 2) block = ""; add(v) }
  if (k == "" && block != "match") add(v)
}
BEGIN { top = 0; level = -1 }
{
  sub(/#.*/, ""); if ($0 ~ /^[ \t]*$/) next
  match($0, /^ */); ind = RLENGTH; text = substr($0, ind + 1)
  while (text ~ /^- /) { text = substr(text, 3); ind += 2 }
  k = ""; v = text
  # A key ends at a colon before a space or the end; an IPv6 address has neither.
  if (match(text, /^["']?[A-Za-z][A-Za-z0-9_-]*["']?:( |$)/)) {
    k = clean(substr(text, 1, RLENGTH)); sub(/:$/, "", k); v = substr(text, RLENGTH + 1)
  }
  if (k != "addresses" && k != "") v = clean(v)
  if (k == "version") { version = v; next }
  if (version == 1) one(k, v); else two(k, v)
}
END { apply(); n = split(dns, a, " "); for (i = 1; i <= n; i++) print "nameserver " a[i] >"/etc/resolv.conf" }
