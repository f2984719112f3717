package transition

import (
	"fmt"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/text"
)

// MaxSites bounds the sites of a file.
const MaxSites = 100

// SitesFile lists clusters of which each has its own configuration, state and transition:
// docs/transition.md has the fields.
type SitesFile struct {
	Format int    `json:"format"`
	Sites  []Site `json:"sites"`
}

// Site says how a cluster is reached: by the socket of an agent of this host, or by the URLs
// of agents, which are asked one after the other until one answers.
type Site struct {
	Name    string   `json:"name"`
	Socket  string   `json:"socket"`
	Servers []string `json:"servers"` // https://HOST:PORT
	CA      string   `json:"ca"`      // PEM files, for servers
	Cert    string   `json:"cert"`
	Key     string   `json:"key"`
}

// ParseSites reads a list of sites. Without faults each can be asked.
func ParseSites(data []byte) (*SitesFile, []strictyaml.Fault) {
	return parse(data, strictyaml.Style{Settings: true}, (*checker).sites)
}

func (c *checker) sites(f *SitesFile) {
	if f.Format != Format {
		c.fault("format", fmt.Sprint(f.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	if len(f.Sites) == 0 || len(f.Sites) > MaxSites {
		c.fault("sites", fmt.Sprint(len(f.Sites)), fmt.Sprintf("want 1 to %d sites", MaxSites))
	}
	seen := map[string]bool{}
	for i := range f.Sites {
		s, at := &f.Sites[i], fmt.Sprintf("sites[%d]", i)
		c.word(at+".name", s.Name)
		if seen[s.Name] {
			c.fault(at+".name", s.Name, "want another name: a site has this one already")
		}
		seen[s.Name] = true
		c.site(at, s)
	}
}

var agentURL = text.Pattern(`^https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`)

func (c *checker) site(at string, s *Site) {
	if (s.Socket == "") == (len(s.Servers) == 0) {
		c.fault(at, s.Name, "want socket or servers, one of them", "socket", "servers")
		return
	}
	if s.Socket != "" {
		if s.CA != "" || s.Cert != "" || s.Key != "" {
			c.fault(at, s.Name, "want no ca, cert and key beside socket: they are for servers")
		}
		return
	}
	for i, server := range s.Servers {
		if !agentURL().MatchString(server) {
			c.fault(fmt.Sprintf("%s.servers[%d]", at, i), server, "want https://HOST:PORT of an agent")
		}
	}
	for _, f := range []struct{ name, value string }{{"ca", s.CA}, {"cert", s.Cert}, {"key", s.Key}} {
		if f.value == "" {
			c.fault(at+"."+f.name, "", "want a PEM file, as servers are asked by TLS with a certificate")
		}
	}
}
