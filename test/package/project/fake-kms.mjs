import * as volseal from 'volseal';
import { fakeKms } from 'volseal/testing';
import roundTrip from './round-trip.cjs';

const kms = await fakeKms();
await roundTrip(volseal, kms.options);
await kms.close();
