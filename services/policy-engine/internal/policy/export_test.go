package policy

// WithoutRows returns c after telling it to write every condition as Rego.
func (c *Compiler) WithoutRows() *Compiler {
	c.noRows = true
	return c
}
