#!/bin/sh
# What the guest agent calls for guest-shutdown: shutdown -h -P|-H|-r +0 ...
sync
case " $* " in
*" -r "*) exec reboot -f ;;
*" -H "*) exec halt -f ;;
*) exec poweroff -f ;;
esac
