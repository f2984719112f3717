package config

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"holdfast/internal/cluster"
)

// NodeAddr is one entry of Cluster.Node.
type NodeAddr struct {
	IP   string // IPv4
	Host cluster.HostID
}

// NICAddr is a network card of the management VM as it is on one host.
type NICAddr struct {
	Bridge   string
	MAC      string // lower case
	IP       string // IPv4
	Netmask  string // dotted
	Gateway  string // IPv4
	DefRoute bool   // Gateway is the default route
	Mgmt     bool   // the management network
}

// Nodes returns the hosts in the order of the configuration. The methods of
// Cluster are for configurations that Parse found no fault in.
func (cl Cluster) Nodes() []NodeAddr {
	var out []NodeAddr
	for _, n := range cl.Node {
		ip, host, _ := strings.Cut(n, " ")
		out = append(out, NodeAddr{IP: ip, Host: cluster.HostID(host)})
	}
	return out
}

// For returns the management VM's network as it is on a host: the per-node
// forms resolved. consoleIP is empty when none is configured. A host that is
// not in Node gets nothing.
func (cl Cluster) For(host cluster.HostID) (nics []NICAddr, consoleIP string) {
	known := false
	for _, n := range cl.Nodes() {
		known = known || n.Host == host
	}
	if !known {
		return nil, ""
	}
	on := func(s string) string {
		v, _ := splitPerNode(s)
		return v.on(string(host))
	}
	for _, n := range cl.Network {
		nics = append(nics, NICAddr{
			Bridge: n.Bridge, MAC: strings.ToLower(n.MacAddress),
			IP: on(n.Ipaddr), Netmask: on(n.Netmask), Gateway: on(n.Gateway),
			DefRoute: n.IsDefRoute, Mgmt: n.IsMgmt,
		})
	}
	return nics, on(cl.ConsoleProxyOverriddenIP)
}

// Timings returns the durations of the safety model, defaults filled in.
func (cl Cluster) Timings() cluster.Timings { return cl.TimingConf.Values() }

// imageName is the source tool's name of the management VM's image.
const imageName = "mnvm.img"

// ImagePath returns the image of the management VM: a file, an NBD URL, or with CephConf
// rbd:POOL/mnvm.img.
func (cl Cluster) ImagePath() string {
	if cl.ImageURL != "" {
		return cl.ImageURL
	}
	if cl.Type == CephConf {
		return "rbd:" + cl.PoolName + "/" + imageName
	}
	return path.Join(cl.ImageFolder, imageName)
}

// RBD is the image of the management VM in a pool; nil with FileConf.
func (cl Cluster) RBD() *cluster.RBD {
	if cl.Type != CephConf {
		return nil
	}
	r := &cluster.RBD{Mons: cl.MonAddrs, Pool: cl.PoolName, Image: imageName, User: cmp.Or(cl.Ceph.User, CephUser)}
	r.Keyring = cmp.Or(strings.TrimPrefix(cl.Ceph.Credential, "file:"), "/etc/ceph/ceph.client."+r.User+".keyring")
	return r
}

// CredentialFiles are the files with passwords and keys that any field Credential names.
func (cl Cluster) CredentialFiles() []string {
	b, err := json.Marshal(cl)
	var v any
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		panic(err) // a configuration is plain data
	}
	var files []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, field := range v {
				if text, ok := field.(string); ok && name == "Credential" {
					files = append(files, strings.TrimPrefix(text, "file:"))
				}
				walk(field)
			}
		case []any:
			for _, each := range v {
				walk(each)
			}
		}
	}
	walk(v)
	slices.Sort(files)
	return slices.Compact(files)
}

// MemoryMiB returns the guest's memory in MiB; MemorySizeInMB overrides MemorySizeInGB.
func (cl Cluster) MemoryMiB() int {
	if cl.MemorySizeInMB > 0 {
		return cl.MemorySizeInMB
	}
	return cl.MemorySizeInGB << 10
}
