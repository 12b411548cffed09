package dockerfile

// Warning is a finding of one of BuildKit's checks.
type Warning struct {
	Rule        string // "StageNameCasing"
	Description string // what the rule is about
	URL         string // documentation of the rule; may be ""
	Message     string // what was found
	Location    Location
}
