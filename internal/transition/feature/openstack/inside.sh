#!/bin/sh
# Holdfast: what this new guest has got by DHCP, and what it is told at 169.254.169.254, onto its console.
url=http://169.254.169.254/openstack/latest/meta_data.json
ask() {
	curl -sf -m 10 $url || wget -q -T 10 -O - $url ||
		python3 -c "import urllib.request as u; print(u.urlopen('$url', timeout=10).read().decode())"
}
tries=0
until text=$(ask 2>/dev/null) || [ $tries -ge 10 ]; do
	tries=$((tries + 1))
	sleep 2
done
told=$(printf '%s' "$text" | tr ',{}' '\n\n\n' | sed -n 's/.*"uuid" *: *"\([0-9a-f-]*\)".*/\1/p' | tr '\n' ' ')
has=$(ip -4 -o addr show scope global | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | tr '\n' ' ')
for again in 1 2 3; do # the kernel's words may fall into one
	{
		echo
		echo "holdfast-feature addresses $has told $told end"
	} >/dev/console
	sleep 1
done
