package feature

import "fmt"

// Minor versions of Nova's API 2 that features need.
const (
	LiveVersion = 30 // a host may be named, and the scheduler is asked all the same
	ColdVersion = 56 // a host may be named
)

// CloudFacts are facts of a test guest and its platform, by which features of the API are left out.
type CloudFacts struct {
	Version   int  // Nova's latest minor version
	Volumes   bool // there is Cinder
	Images    bool // there is Glance
	Image     bool // the guest was made from an image
	Port      bool // it has a port, and there is Neutron
	Down      bool // that port is down
	Hosts     int  // nova-computes that are up and enabled, beside the guest's own
	Flavor    bool // a flavor for a resize is named
	Service   bool // the metadata service is named
	CloudInit bool // the image is said to run a script of user data
	DHCP      bool // Neutron gives IPv4 addresses by DHCP in the first port's network
}

const (
	noImage = "it was not made from an image: it boots from a volume"
	noPort  = "it has no port of Neutron"
)

// Skip tells why a feature can not be tried; "": it can.
func (f CloudFacts) Skip(n Name) string {
	switch n {
	case Attach, Detach:
		if !f.Volumes {
			return "Keystone knows no volume service"
		}
	case Image:
		if !f.Images {
			return "Keystone knows no image service"
		}
	case New, Rebuild:
		if !f.Image {
			return noImage
		}
	case Inside:
		switch {
		case !f.CloudInit:
			return "no --cloud-init given"
		case !f.Image:
			return noImage
		case !f.Port:
			return noPort
		case !f.DHCP:
			return "the network of its first port gives no IPv4 addresses by DHCP"
		}
	case Down, Up:
		switch {
		case !f.Port:
			return noPort
		case f.Down:
			return "its first port is down already"
		}
	case Resize:
		if !f.Flavor {
			return "no --flavor given"
		}
	case Live:
		return f.move(LiveVersion)
	case Cold:
		return f.move(ColdVersion)
	case Metadata:
		if !f.Service {
			return "no --metadata given"
		}
	}
	return ""
}

// move tells why the guest can not be moved to another host and back, with what needs a version.
func (f CloudFacts) move(version int) string {
	switch {
	case f.Hosts == 0:
		return "no other compute host is up and enabled"
	case f.Version < version:
		return fmt.Sprintf("Nova's API ends at version 2.%d: a move to a named host needs 2.%d", f.Version, version)
	}
	return ""
}
