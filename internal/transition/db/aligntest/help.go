package aligntest

import (
	"context"
	"testing"
	"time"

	"holdfast/internal/transition/db/mapping"
)

// Deadline bounds what a test asks of servers: 5 minutes.
func Deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Mapping reads a mapping that must be right.
func Mapping(t testing.TB, text string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.ParseMapping("m.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
