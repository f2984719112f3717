package onhost

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ceph"
	"holdfast/internal/install"
	"holdfast/internal/lib/text"
)

// poolWithin bounds all questions to a Ceph cluster.
const poolWithin = time.Minute

// pool looks at the image in a Ceph pool as the agent and as QEMU will.
func pool(ctx context.Context, r cluster.RBD) *install.Pool {
	ctx, cancel := context.WithTimeout(ctx, poolWithin)
	defer cancel()
	out, err := lookAtPool(ctx, r)
	if err != nil {
		return &install.Pool{Error: text.Clean(err.Error())}
	}
	return out
}

func lookAtPool(ctx context.Context, r cluster.RBD) (*install.Pool, error) {
	c := ceph.New(ceph.Options{RBD: r})
	if err := c.Check(ctx); err != nil {
		return nil, err
	}
	i, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	out := &install.Pool{Size: i.Size}
	fsid, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	out.ID = fsid + "/" + i.ID
	here, elsewhere, err := c.Open(ctx)
	if err != nil {
		return nil, err
	}
	out.Open = append(here, elsewhere...)
	said, err := run(ctx, "qemu-img", "info", "-U", "--output=json", qemuName(r))
	if err != nil {
		return nil, fmt.Errorf("QEMU can not open the image (Debian: install qemu-block-extra, others: qemu-kvm-block-rbd): %w", err)
	}
	var info struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal([]byte(said), &info); err != nil {
		return nil, fmt.Errorf("qemu-img info: %w", err)
	}
	out.Format = info.Format
	return out, nil
}

// qemuName is the image's name for QEMU's programs: a colon begins the next option.
func qemuName(r cluster.RBD) string {
	esc := func(s string) string { return strings.NewReplacer(`\`, `\\`, ":", `\:`, "=", `\=`).Replace(s) }
	return fmt.Sprintf("rbd:%s/%s:id=%s:keyring=%s:mon_host=%s", esc(r.Pool), esc(r.Image), esc(r.User), esc(r.Keyring),
		esc(strings.Join(r.Mons, ";")))
}
