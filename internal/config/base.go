package config

import "fmt"

// ParseBase reads what the settings of all agents of a cluster have in common
// beside what is filled in for each host. Fields that an installation fills in
// are refused, the others are not checked before they are in the whole.
func ParseBase(name string, data []byte) (Node, []Fault) {
	c := newChecker(name)
	var n Node
	if !c.document(data, &n, true) {
		return n, c.faults()
	}
	for _, f := range []struct{ field, value string }{
		{"host", n.Host}, {"addr", n.Addr}, {"cluster", n.Cluster}, {"config_file", n.ConfigFile}, {"api.listen", n.API.Listen},
		{"tls.ca", n.TLS.CA}, {"tls.cert", n.TLS.Cert}, {"tls.key", n.TLS.Key},
	} {
		if f.value != "" {
			c.fault(f.field, f.value, "want none: it is filled in for each host")
		}
	}
	if at := n.Console.Listen; at != "" && at != NoConsole && !isListen(at) {
		c.fault("console.listen", at, "want IP:PORT, HOST:PORT, :PORT, none, or nothing for :8443")
	}
	if n.GuestsOnly || n.Store.Member != nil || len(n.Store.Endpoints) > 0 {
		c.fault("store", fmt.Sprint(n.Store.Endpoints), "want neither store nor guests_only: they are filled in for each host")
	}
	return n, c.faults()
}
