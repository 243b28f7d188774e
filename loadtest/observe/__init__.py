"""What the network says of itself while a run goes on: nodes, router status, and who served which task."""
