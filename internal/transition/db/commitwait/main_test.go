package commitwait_test

import (
	"os"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

func TestMain(m *testing.M) { os.Exit(aligntest.Main(m)) }
