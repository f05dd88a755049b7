require('./round-trip.cjs')(require('volseal'));
