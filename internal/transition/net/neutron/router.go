package neutron

import (
	"context"

	"holdfast/internal/transition/net"
)

// wireRouter is a router in the API.
type wireRouter struct {
	net.Router
	Distributed bool   `json:"distributed"`
	HA          bool   `json:"ha"`
	FlavorID    string `json:"flavor_id"`
	Gateway     *struct {
		EnableSNAT  *bool   `json:"enable_snat"`
		QoSPolicyID *string `json:"qos_policy_id"`
	} `json:"external_gateway_info"`
}

// routers reads routers and floating IPs, after the ports.
func (c *Client) routers(ctx context.Context, d *net.Document) error {
	routers, err := list(ctx, c, of[wireRouter]{path: "routers", whole: true, kind: "router", left: &d.LeftOut},
		func(r wireRouter) string { return r.ID })
	if err != nil {
		return err
	}
	not := map[string]bool{}
	for _, w := range routers {
		r := w.Router
		r.EnableSNAT = true
		if g := w.Gateway; g != nil {
			r.EnableSNAT = g.EnableSNAT == nil || *g.EnableSNAT
			if p := d.PortOf(net.GatewayOwner, r.ID); p != nil {
				r.GatewayPort = &p.ID
			} else {
				d.LeftOut = append(d.LeftOut, net.LeftOut{Kind: "router", ID: r.ID, Field: "external_gateway_info", Value: []byte("{}")})
			}
			if g.QoSPolicyID != nil {
				d.LeftOut = append(d.LeftOut, net.LeftOut{Kind: "router", ID: r.ID, Field: "qos_policy_id", Value: []byte(`"` + *g.QoSPolicyID + `"`)})
			}
		}
		if w.Distributed || w.HA || w.FlavorID != "" {
			not[r.ID] = true
		}
		d.Routers = append(d.Routers, r)
	}
	d.FloatingIPs, err = list(ctx, c, of[net.FloatingIP]{path: "floatingips", whole: true, kind: "floatingip",
		left: &d.LeftOut}, func(f net.FloatingIP) string { return f.ID })
	if err == nil {
		d.LeaveRouters(not)
	}
	return err
}
