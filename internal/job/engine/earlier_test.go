package engine

import (
	"slices"
	"testing"

	"holdfast/testbed/earlier"
	"holdfast/testbed/earlier/revive"
)

// TestTodosOfAnEarlierVersionAreRead: what hosts had to look at when the program was
// another one is read as a whole.
func TestTodosOfAnEarlierVersionAreRead(t *testing.T) {
	want := map[string][]string{
		todosKey("h1") + "upgrade": {"h1/tidy"},
		todosKey("h2") + "upgrade": {"h2/install/agentd"},
		todosKey("h3") + "upgrade": {"h3/undrain"},
	}
	kvs := revive.List(t, revive.Store(t, earlier.Middle), keyTodo)
	if len(kvs) != len(want) {
		t.Errorf("todos: %v", kvs)
	}
	for _, kv := range kvs {
		earlier.Whole[todo](t, kv.Key, kv.Value)
		td, err := decodeTodo(kv)
		if err != nil || td.Job != earlier.Upgrade || !slices.Equal(td.Steps, want[kv.Key]) {
			t.Errorf("%s: %+v, %v: want %v", kv.Key, td, err, want[kv.Key])
		}
	}
}
