#!/bin/sh
# After the files of a package are in place. deb: configure [OLD] or abort-...; rpm: how
# many versions are installed now. Nothing is enabled here; an agent that runs is replaced.
set -eu
exe=/opt/holdfast/bin/holdfast unit=holdfast.service settings=/etc/holdfast/agent.json

# Its own tool wants /proc, which the root of an image that is being made may not have.
grep '^d ' /usr/lib/tmpfiles.d/holdfast.conf | while read -r _ path mode user group _; do
	install -d -m "$mode" -o "$user" -g "$group" "$path"
done
[ -e /usr/bin/zsha ] || [ -L /usr/bin/zsha ] || ln -s $exe /usr/bin/zsha
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case ${1-} in
abort-*) exit 0 ;;
esac
if pid=$(systemctl show -p MainPID --value $unit) && [ "${pid:-0}" != 0 ]; then
	# What the new program would not take must not end the agent that runs.
	insecure=$(tr '\0' '\n' <"/proc/$pid/cmdline" | grep -xE -- '--insecure(=true)?' || true)
	if ! $exe agent --check $insecure --config $settings; then
		echo "holdfast: the new version does not take the settings of this host: the agent of the version before runs on. Mend them, then: systemctl restart holdfast" >&2
		exit 1
	fi
	# The agent alone: the VM, the member of the store and the watchdog holder go on.
	systemctl restart $unit
	echo "holdfast: the agent is restarted"
elif ! [ -e $settings ]; then
	echo "holdfast: installed, not configured: there is no $settings. What this host has and lacks: holdfast doctor"
else
	echo "holdfast: installed; the agent does not run. To start it, now and at boot: systemctl enable --now holdfast"
fi
