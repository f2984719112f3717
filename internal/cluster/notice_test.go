package cluster

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

func TestEveryKindOfEventHasASeverity(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []EventKind
	ast.Inspect(f, func(n ast.Node) bool {
		v, is := n.(*ast.ValueSpec)
		if !is || len(v.Values) != 1 {
			return true
		}
		if of, is := v.Type.(*ast.Ident); is && of.Name == "EventKind" {
			kind, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, EventKind(kind))
		}
		return true
	})
	slices.Sort(declared)
	if got := EventKinds(); len(declared) < 20 || !slices.Equal(got, declared) {
		t.Errorf("the table of severities has\n%v, declared are\n%v", got, declared)
	}
	for k, s := range severities {
		if !slices.Contains(Severities, s) {
			t.Errorf("%s has the severity %q", k, s)
		}
	}
}

func TestSeverities(t *testing.T) {
	if !Critical.Least(Warning) || !Warning.Least(Warning) || Info.Least(Warning) {
		t.Error("critical is above warning, and that above info")
	}
	if s := EventKind("of-a-later-version").Severity(); s != Warning {
		t.Errorf("a kind that is not known has the severity %s, want warning", s)
	}
}

func TestAnEventTellsWhichReceiverItIsAbout(t *testing.T) {
	e := Event{Kind: EvNotify, Detail: ReceiverFailed("night", "no answer")}
	if !e.AboutReceiver("night") || e.AboutReceiver("nigh") || e.AboutReceiver("night shift") {
		t.Errorf("%q is about the receiver night, and no other one", e.Detail)
	}
	e.Kind = EvConfig
	if e.AboutReceiver("night") {
		t.Error("an event of another kind is about no receiver")
	}
}
