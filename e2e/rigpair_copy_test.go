package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
)

// slowStandby lets the database of the standby run for a small part of the time.
func slowStandby(p *pairRig, ctx context.Context, _, standby string) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if err := p.lab.Pause(ctx, standby, database); err != nil {
			return err
		}
		time.Sleep(150 * time.Millisecond)
		if err := p.lab.Resume(ctx, standby, database); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// interruptedCopy takes the standby's data, so that it copies those of the active node, and cuts its power
// in the middle of that.
func interruptedCopy(p *pairRig, ctx context.Context, _, standby string) error {
	if err := p.lab.Crash(ctx, standby); err != nil {
		return err
	}
	data := p.disk(standby, filepath.Base(lab.PairData))
	if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
		return err
	}
	if err := p.on(ctx, standby); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := time.Now()
	var last pairState
	for ctx.Err() == nil {
		st, err := p.pairStatus(ctx)
		for _, n := range st.Nodes {
			if err == nil && string(n.Host) == standby && n.Time.After(at) && n.Copy != nil && n.Copy.Stage != cluster.Copied {
				return p.lab.Crash(ctx, standby)
			}
		}
		if err == nil {
			last = st
		}
	}
	return fmt.Errorf("no copy was seen under way: %s, %+v", last.Why, last.Nodes)
}
