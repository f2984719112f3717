package web

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// failoverPart is the part of a failover's page.
func failoverPart(_ context.Context, v *view) (templ.Component, error) {
	at, err := strconv.ParseInt(v.arg("at"), 10, 64)
	if err != nil {
		return nil, errNoPage
	}
	f, found := told.FailoverAt(v.Events, time.Unix(0, at))
	if !found {
		return nil, errNoPage
	}
	v.Title = v.T("Failover of " + told.WallClock(f.Decided))
	return failover(v, f), nil
}

// Geometry of the time line, in the units of its picture.
const (
	lineLeft, lineRight = 160.0, 1120.0
	laneTop, laneHeight = 60.0, 44.0
)

// timeline is a failover as a picture: one lane for each host.
type timeline struct {
	told.Failover
	Until time.Time
	Lanes []cluster.HostID
}

func timelineOf(f told.Failover) timeline {
	t := timeline{f, f.Decided, nil}
	if !f.Started.IsZero() {
		t.Until = f.Started
	}
	t.Until = t.Until.Add(max(t.Until.Sub(f.Lost)/8, 100*time.Millisecond)) // what follows is seen, too
	for _, h := range []cluster.HostID{f.From, f.By, f.To} {
		if h != "" && !slices.Contains(t.Lanes, h) {
			t.Lanes = append(t.Lanes, h)
		}
	}
	return t
}

// X is where a time stands.
func (t timeline) X(at time.Time) float64 {
	part := float64(at.Sub(t.Lost)) / float64(t.Until.Sub(t.Lost))
	return lineLeft + (lineRight-lineLeft)*min(max(part, 0), 1)
}

// Y is where the lane of a host stands; one that has none has that of the coordinator.
func (t timeline) Y(h cluster.HostID) float64 {
	i := slices.Index(t.Lanes, h)
	if i < 0 {
		i = max(0, slices.Index(t.Lanes, t.By))
	}
	return laneTop + laneHeight*float64(i+1)
}

// Height is that of the picture.
func (t timeline) Height() float64 { return laneTop + laneHeight*float64(len(t.Lanes)+1) - 16 }

// num is a coordinate.
func num(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

// since is a time since the last word.
func (t timeline) since(at time.Time) string { return fmt.Sprintf("+%.3f s", at.Sub(t.Lost).Seconds()) }

// lane is whose lane an event stands in.
func lane(e cluster.Event) cluster.HostID {
	if e.Kind == cluster.EvSilent || e.Kind == cluster.EvFenceFail || e.Kind == cluster.EvTakeover {
		return cmp.Or(e.By, e.Host)
	}
	return cmp.Or(e.Host, e.By)
}
