package rows

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/transition/net"
)

// Plugs writes ovs_hybrid_plug of bound ports, where a document says something else than Neutron has made of the host's
// agent, and returns of how many. The API does not take it. Neutron makes it anew when it binds a port
// anew.
func (d *Database) Plugs(ctx context.Context, ports []net.Port) (changed int, err error) {
	said := slices.DeleteFunc(slices.Clone(ports), func(p net.Port) bool { return p.VIFDetails.HybridPlug == nil })
	if len(said) == 0 {
		return 0, nil
	}
	for _, column := range []string{"vif_details", "vif_type", "host", "port_id"} {
		if !d.has["ml2_port_bindings."+column] {
			return 0, d.lacks("ml2_port_bindings")
		}
	}
	for part := range slices.Chunk(said, 200) {
		other, err := d.otherwise(ctx, part)
		if err != nil {
			return changed, err
		}
		for _, p := range other {
			did := false
			err := d.in(ctx, func(tx *sql.Tx) (err error) { did, err = d.plug(ctx, tx, p); return err })
			if err != nil {
				return changed, fmt.Errorf("port %s: ovs_hybrid_plug: %w", p.ID, err)
			}
			if did {
				changed++
			}
		}
	}
	return changed, nil
}

// bound chooses the binding of ports that counts: while a guest moves there is a second one, of the host to which it goes.
func (d *Database) bound() string {
	where := " FROM " + d.table("ml2_port_bindings") + " WHERE vif_type = 'ovs'"
	if d.has["ml2_port_bindings.status"] {
		where += " AND status = 'ACTIVE'"
	}
	return where
}

// otherwise are the ports of which Neutron has something else than they say.
func (d *Database) otherwise(ctx context.Context, ports []net.Port) (out []net.Port, err error) {
	of := map[string]net.Port{}
	var ids []any
	for _, p := range ports {
		of[p.ID] = p
		ids = append(ids, p.ID)
	}
	found, err := d.srv.DB.QueryContext(ctx, "SELECT port_id, host, vif_details"+d.bound()+" AND port_id IN (?"+
		strings.Repeat(", ?", len(ids)-1)+")", ids...)
	if err != nil {
		return nil, fmt.Errorf("read the table %s: %w", "ml2_port_bindings", err)
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		var id, host, text string
		if err := found.Scan(&id, &host, &text); err != nil {
			return nil, err
		}
		p := of[id]
		if _, same, err := plugged(text, *p.VIFDetails.HybridPlug); err != nil {
			return nil, fmt.Errorf("port %s: vif_details: %w", id, err)
		} else if !same && p.HostID == host {
			out = append(out, p)
		}
	}
	return out, found.Err()
}

func (d *Database) plug(ctx context.Context, tx *sql.Tx, p net.Port) (did bool, err error) {
	var text string
	err = tx.QueryRowContext(ctx, "SELECT vif_details"+d.bound()+" AND port_id = ? AND host = ? FOR UPDATE", p.ID, p.HostID).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil // it was bound to another host meanwhile: what is read back says so
	}
	if err != nil {
		return false, err
	}
	text, same, err := plugged(text, *p.VIFDetails.HybridPlug)
	if err != nil || same {
		return false, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE "+d.table("ml2_port_bindings")+" SET vif_details = ? WHERE port_id = ? "+
		"AND host = ?", text, p.ID, p.HostID)
	return err == nil, err
}

// plugged is vif_details with another ovs_hybrid_plug; same: it is that already. null means false.
func plugged(text string, hybrid bool) (with string, same bool, err error) {
	if text == "" {
		text = "{}"
	}
	var is net.VIFDetails
	all := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal([]byte(text), &is), json.Unmarshal([]byte(text), &all)); err != nil {
		return "", false, err
	}
	if hybrid == (is.HybridPlug != nil && *is.HybridPlug) {
		return text, true, nil
	}
	all["ovs_hybrid_plug"] = json.RawMessage(fmt.Sprint(hybrid))
	out, err := json.Marshal(all)
	return string(out), false, err
}
