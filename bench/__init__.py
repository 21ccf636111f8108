"""What Kami costs: reproducible measurements; results name the hardware they ran on."""
