package lang

// foreign are messages of the libraries that people see: those of the command line's, and
// what the kernel and the network say.
var foreign = []string{
	"Usage:", "Aliases:", "Examples:", "Available Commands:", "Additional Commands:", "Flags:", "Global Flags:", "Additional help topics:",
	`Use "%s [command] --help" for more.`,
	"help for %s", "help for this command", "Help about any command", "default",
	"unknown command %q for %q", "unknown flag: %s", "unknown shorthand flag: %q in %s", "flag needs an argument: %s",
	"invalid argument %q for %q flag: %v", "accepts %d arg(s), received %d", "accepts between %d and %d arg(s), received %d",
	"accepts at most %d arg(s), received %d", "requires at least %d arg(s), only received %d", `required flag(s) "%s" not set`,
	"no such file or directory", "permission denied", "file exists", "is a directory", "not a directory", "no space left on device",
	"read-only file system", "input/output error", "device or resource busy", "connection refused", "connection reset by peer",
	"no route to host", "network is unreachable", "address already in use", "broken pipe", "i/o timeout", "file name too long",
	"exit status %d", "signal: killed", "signal: terminated",
	"dial tcp %s: %v", "dial unix %s: %v", "open %s: %v", "read %s: %v", "write %s: %v", "stat %s: %v", "mkdir %s: %v",
	"rename %s: %v", "remove %s: %v",
}

// composed are messages that are put together from pieces, which are none.
var composed = []string{
	"%s on %s", "%s on %s since %s", "%s on %s -> %s", "%s on %s -> %s, %d %%", "%s of %s", "coord", "member",
	"unnamed", "valid", "due", "expired",
	"services", "SERVICES", "mgmt VM", "IN USE", "NOT possible", "follower", "leader", "learner", "away", "alarm", "pass", "warn", "fail",
	"check address", "check bridge", "check certificate", "check clock", "check connect", "check cpus", "check credentials",
	"check database", "check device", "check domain", "check firewall", "check guest", "check hosts", "check image", "check installed",
	"check leftovers", "check link", "check memory", "check mtu", "check networks", "check ports", "check reach", "check rights",
	"check settings", "check space", "check tables", "check time source", "check units", "check watchdog",
	"safe", "healthy", "degraded", "receiving", "preparing", "%s MB of about %s MB", "%s MB of about %s GB", "%s GB of about %s GB",
	"%s MB received", "%s GB received", "%s on %s /dev/%s: %s, %d %% in common", "%s on %s /dev/%s: in sync",
	"pending", "dropped", "rollup_success", "rolldown_success", "prepare", "hosts", "managers", "modules", "aborted",
}
