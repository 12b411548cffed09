package difftest

import "testing"

func compareDocker(t *testing.T, all []testCase) { t.Skip("later") }
